"""Writes one HTML page about all evaluations."""
