"""Data sets: digits, Moving MNIST, records, and the source of a run."""
