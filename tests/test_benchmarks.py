import pytest

from benchmarks._common import Size
from benchmarks.contenders import differences_of_equal_models


def test_the_flop_of_a_step_by_hand():
    # Weights x steps x passes of the default size; 2 x 100 operations for each.
    encoder = 4096 * 8192 * 10 * 2 + 2048 * 8192 * 9 * 3
    decoder = 2048 * 8192 * 10 * 3 + 2048 * 4096 * 10 * 3
    assert Size().flop == 200 * (encoder + 2 * decoder)
    assert Size().flop / 1e9 == pytest.approx(527, abs=1)


@pytest.mark.parametrize("layers", [1, 2])
def test_contenders_train_the_same_model(layers):
    # Our layers against a cell in keras.layers.RNN, from equal weights.
    differences = differences_of_equal_models(Size(6, layers, batch=3, frames=4, frame_dim=10))
    assert differences["loss"] < 1e-6 and differences["gradient"] < 1e-4
