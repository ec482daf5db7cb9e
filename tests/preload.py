"""What all runs of test_pretrain start from: imports and digits, which take longer than a run."""

import train.pretrain  # noqa: F401
from unsup_video.data import digits

digits.load_digits("train")
