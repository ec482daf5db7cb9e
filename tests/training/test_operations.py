"""The floating-point operations of a step, by hand: weights x frames x passes x 2 x clips."""

import pytest

from unsup_video.configs import table2_composite, table2_conditional_future_predictor
from unsup_video.training import experiment


def config_of(module, **model):
    config = module.get_config()
    config.model.update({"units": 5, "layers": 1, **model})
    config.data.frames_in, config.data.frames_out = 6, 4
    config.recipe.batch_size = 7
    return config.to_dict()


def test_a_composite_with_other_numbers_of_frames():
    encoder = 12 * 20 * 6 * 2 + 5 * 20 * 5 * 3
    decoders = sum(5 * 20 * frames * 3 + 5 * 12 * frames * 3 for frames in (6, 4))
    config = config_of(table2_composite)
    assert experiment.step_flop(config, (4, 3)) == 2 * 7 * (encoder + decoders)


def test_layers_of_grus():
    recurrent = 5 * 15 * 3  # of a frame
    encoder = 12 * 15 * 6 * 2 + recurrent * (5 + 5 + 6)  # two layers, and the product between them
    decoders = (recurrent * 3 + 5 * 12 * 3) * (6 + 4)
    config = config_of(table2_composite, layers=2, cell="gru")
    assert experiment.step_flop(config, [12]) == 2 * 7 * (encoder + decoders)


@pytest.mark.parametrize(("reads", "passes"), [("own", 3), ("truth", 2)])
def test_a_conditional_future_predictor(reads, passes):
    encoder = 12 * 20 * 6 * 2 + 5 * 20 * 5 * 3
    decoder = 5 * 20 * 4 * 3 + 5 * 12 * 4 * 3 + 12 * 20 * 3 * passes  # all frames but the first
    config = config_of(table2_conditional_future_predictor)
    config["recipe"]["conditional_input"] = reads
    assert experiment.step_flop(config, [12]) == 2 * 7 * (encoder + decoder)
