"""Writes pictures: strips and GIFs of frames, charts, and the fonts of both."""
