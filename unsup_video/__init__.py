"""Unsupervised learning of video representations using LSTMs, in Keras 3."""

__version__ = "0.1.0"
