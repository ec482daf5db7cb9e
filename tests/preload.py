"""What all commands start from: imports and digits, which take longer than most of them."""

from unsup_video import client, export  # noqa: F401
from unsup_video.data import convert, digits, preview  # noqa: F401
from unsup_video.evaluation import (  # noqa: F401
    action_recognition,
    features,
    few_labels_fits,
    future_prediction,
    long_range,
    out_of_domain,
    report,
)
from unsup_video.training import (  # noqa: F401
    flow_classification,
    precision,
    pretraining,
)
from unsup_video.video import flow, flow_percepts, jobs, patches, percepts  # noqa: F401

precision._cpu_flags = lambda: []  # as in conftest.py
digits.load_digits("train")
