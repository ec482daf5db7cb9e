"""Training: the loop, optimisers, the folder of a run and its checkpoints."""
