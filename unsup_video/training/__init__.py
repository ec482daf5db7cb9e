"""Running an experiment: recipes, the loop, its folder and checkpoints."""
