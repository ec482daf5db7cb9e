"""What all commands start from: imports and digits, which take longer than most of them."""

from unsup_video.data import digits
from unsup_video.serving import client, export  # noqa: F401
from unsup_video.training import precision
from unsup_video.video import flow, flow_percepts, jobs, patches, percepts, preview  # noqa: F401

precision._cpu = dict  # as in conftest.py
digits.load_digits("train")
