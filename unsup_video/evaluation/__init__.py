"""Measures and draws the results of trained models: the paper's tables and figures."""
