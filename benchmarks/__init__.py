"""Measures speed and memory against stock layers, other frameworks and the machine's limits."""
