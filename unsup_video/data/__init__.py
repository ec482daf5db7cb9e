"""Data sets: digits, Moving MNIST, records, windows, splits, and the data source of a run."""
