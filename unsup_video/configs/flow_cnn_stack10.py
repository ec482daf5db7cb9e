"""The temporal-stream CNN on stacks of 10 flows, 20 channels. See `flow_cnn`.

On UCF-101's test videos, the paper reports an accuracy of 77.5%, and Simonyan & Zisserman (2014)
81.0% on split 1. This is not reproduced here yet.
"""

from unsup_video.configs import flow_cnn


def get_config(recipe=""):
    config = flow_cnn.get_config(recipe)
    config.name = "flow_cnn_stack10"
    config.data.stack = 10
    config.expect = dict(video_accuracy=77.5, source="paper, UCF-101")
    return config
