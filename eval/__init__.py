"""Commands that evaluate trained models."""
