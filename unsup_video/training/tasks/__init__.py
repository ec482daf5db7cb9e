"""The tasks that the training loop trains; one file is one task."""
