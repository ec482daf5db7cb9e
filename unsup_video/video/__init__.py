"""From video files to data sets: which videos, decoding, crops, CNN percepts, optical flow."""
