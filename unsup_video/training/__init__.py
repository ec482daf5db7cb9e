"""Training: optimisers, the loop, the folder of a run and its checkpoints."""
