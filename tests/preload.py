"""What all runs of test_pretrain start from: imports and digits, which take longer than a run."""

import train.pretrain  # noqa: F401
from unsup_video.data import digits
from unsup_video.training import precision

precision._cpu_flags = lambda: []  # as in conftest.py
digits.load_digits("train")
