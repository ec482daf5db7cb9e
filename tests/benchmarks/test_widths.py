"""`benchmarks.widths` on folders as runs leave them, with figures by hand."""

import json
import sys

import pytest

from benchmarks import widths
from benchmarks._common import Size
from unsup_video.configs import moving_mnist_long


def run(folder, units, steps, future, seconds=0.5, ended=None, init="none", sha256="a"):
    """Writes a run with lines every 10 steps, of `seconds` each except for a pause."""
    config = moving_mnist_long.get_config()
    config.model.units, config.train.steps, config.model.init = units, steps, init
    ended = ended or steps
    lines = [
        {"step": step, "split": "train", "elapsed_s": seconds * step + (step > 20) * 1000.0}
        for step in range(10, ended + 1, 10)
    ]
    validation = {"split": "validation", "elapsed_s": 0.0}
    lines += [{"step": step, "free_running/future": future, **validation} for step in (10, ended)]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config.to_json())
    (folder / "run.json").write_text(
        json.dumps({"frame_shape": [64, 64], "data": {"sha256": {"validation": sha256}}})
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_cost_of_a_run_leaves_out_its_pauses(tmp_path):
    point = widths.Point.read(run(tmp_path / "run", 256, 100, 400.0))
    assert point.minutes == pytest.approx(100 * 0.5 / 60)
    assert point.tflop == pytest.approx(100 * Size(256, batch=64).flop / 1e12)
    assert (point.width, point.steps, point.future) == ("1 x 256 units", 100, 400.0)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(ended=90), "no loss of the future at its last step, 100"),
        (dict(init="runs/first"), "goes on from another run"),
    ],
)
def test_what_is_no_whole_run_is_refused(tmp_path, options, message):
    folder = run(tmp_path / "run", 256, 100, 400.0, **options)
    with pytest.raises(ValueError, match=message):
        widths.Point.read(folder)


def test_the_report_has_a_curve_for_each_width(tmp_path, monkeypatch, capsys):
    runs = [
        run(tmp_path / str(number), units, steps, future)
        for number, (units, steps, future) in enumerate(
            [(512, 200, 380.0), (64, 100, 420.0), (512, 100, 400.0)]
        )
    ]
    out = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["widths", *map(str, runs), f"--out={out}"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", widths.__spec__)
    widths.main()
    rows = [line for line in out.read_text().splitlines() if line.startswith("| 1 x")]
    assert [row.split(" | ")[0] for row in rows] == ["| 1 x 64 units", *["| 1 x 512 units"] * 2]
    assert [row.split(" | ")[-1] for row in rows] == ["420.0 |", "400.0 |", "380.0 |"]
    assert [point["future"] for point in json.loads(out.with_suffix(".json").read_text())] == [
        380.0,
        420.0,
        400.0,
    ]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")

    other = run(tmp_path / "other", 64, 100, 420.0, sha256="b")
    for arguments, message in (
        ([str(tmp_path)], "is no run of train.pretrain"),
        ([str(runs[0]), str(other)], "other validation clips"),
    ):
        monkeypatch.setattr(sys, "argv", ["widths", *arguments])
        with pytest.raises(SystemExit):
            widths.main()
        assert message in capsys.readouterr().err
