import pytest
from matplotlib.figure import Figure

from unsup_video.pictures import charts


@pytest.mark.parametrize(
    "lowest, highest, some",
    [
        (3e-17, 2e-2, {"1e-12"}),  # many decades: no room for 2 and 5
        (0.7, 40.0, {"1", "2", "5", "10", "20"}),
        (330.0, 420.0, {"400"}),
    ],
)
def test_a_logarithmic_axis_has_numbers(lowest, highest, some):
    figure = Figure((3, 3))
    axes = figure.add_subplot()
    axes.plot([1, 2], [lowest, highest])
    charts.log_scale(axes)
    figure.canvas.draw()
    low, high = axes.get_ylim()
    labels = {
        label.get_text()
        for tick, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
        if low <= tick <= high
    }
    assert some <= labels, labels
