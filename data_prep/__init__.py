"""Data preparation commands."""
