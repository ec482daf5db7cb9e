import contextlib
import gzip
import importlib.util
import json
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import profile_summary
from unsup_video.training import profiling
from unsup_video.training.profiling import Profiler

_DEADLINE_S = 120


@tf.function(autograph=False)
def _work(batch):
    return tf.reduce_sum(tf.matmul(batch, batch, name="a_product"))


def _train(profiler, steps):
    for number in steps:
        with profiler.step(number):
            with profiler.input():
                batch = tf.ones((64, 64))
            float(_work(batch))


def _traces(folder):
    return list(folder.glob("plugins/profile/*/*.xplane.pb"))


def test_steps_are_read_from_a_flag():
    assert profiling.parse("10,20") == (10, 20)
    assert profiling.parse("2,2") == (2, 2)
    assert profiling.parse(None) is None and profiling.parse("") is None


@pytest.mark.parametrize(
    "text, says",
    [
        ("10", "the first and the last step to profile, such as 10,20"),
        ("10,20,30", "the first and the last step"),
        ("a,b", "profile_steps=a,b: give"),
        ("1,5", "start at step 2 or later"),
        ("-3,5", "start at step 2 or later"),
        ("20,10", "give 20,30 for example"),
    ],
)
def test_a_bad_range_says_what_to_give(text, says):
    with pytest.raises(ValueError, match=says):
        profiling.parse(text)


def test_nothing_is_written_without_steps(tmp_path):
    said = []
    with Profiler(tmp_path, None, log=said.append) as profiler:
        _train(profiler, range(1, 4))
    assert not said and not list(tmp_path.iterdir())


def test_a_range_behind_the_end_is_refused(tmp_path):
    with pytest.raises(ValueError, match="profile_steps=20,30: the run ends with step 10"):
        Profiler(tmp_path, (20, 30), end=10)


def test_a_resumed_run_behind_the_range_says_so(tmp_path):
    said = []
    # Step 21 compiles, so that nothing of 10 to 21 is left.
    with Profiler(tmp_path, (10, 21), start=20, end=40, log=said.append) as profiler:
        _train(profiler, range(21, 24))
    (line,) = said
    assert line.startswith("nothing is profiled: profile_steps=10,21, but")
    assert "starts with step 21 and compiles in it" in line
    assert not _traces(tmp_path)


def test_a_run_resumed_inside_the_range_profiles_the_rest_but_what_compiles(tmp_path):
    said = []
    with Profiler(tmp_path, (10, 16), start=12, end=40, log=said.append) as profiler:
        _train(profiler, range(13, 20))
    assert said[0] == "profiling from step 14 to 16"
    assert _step_numbers(_traces(tmp_path)) == [14, 15, 16]


def test_a_run_that_ends_inside_the_range_is_profiled_to_its_end(tmp_path):
    with Profiler(tmp_path, (3, 30), end=5, log=lambda line: None) as profiler:
        _train(profiler, range(1, 6))
    assert _step_numbers(_traces(tmp_path)) == [3, 4, 5]


def test_a_run_that_stops_before_the_range_says_so(tmp_path):
    said = []
    with Profiler(tmp_path, (10, 20), end=40, log=said.append) as profiler:
        _train(profiler, range(1, 4))
    assert said == ["nothing was profiled: the run stopped before step 10"]


@pytest.mark.parametrize("stopped_by", [ValueError, KeyboardInterrupt])
def test_what_stops_a_run_leaves_the_trace_and_the_profiler_free(tmp_path, stopped_by):
    with pytest.raises(stopped_by), Profiler(tmp_path, (2, 30), log=lambda line: None) as profiler:
        _train(profiler, range(1, 4))
        with profiler.step(4):
            raise stopped_by
    assert _step_numbers(_traces(tmp_path)) == [2, 3, 4]

    with Profiler(tmp_path / "next", (2, 3), log=lambda line: None) as profiler:
        _train(profiler, range(1, 5))
    assert _step_numbers(_traces(tmp_path / "next")) == [2, 3]


def test_an_error_of_writing_names_the_folder_and_hides_no_other(tmp_path):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "tb"
    said = []
    profiler = Profiler(folder, (2, 3), log=said.append)
    with pytest.raises(OSError, match=f"{folder}: cannot be written"), profiler:
        _train(profiler, range(1, 5))

    with pytest.raises(KeyError), Profiler(folder, (2, 9), log=said.append) as profiler:
        _train(profiler, range(1, 5))
        raise KeyError
    assert f"{folder}: cannot be written" in said[-1]


def _step_numbers(traces):
    """The steps that a trace has an annotation of, from the file itself."""
    (trace,) = traces
    numbers = []
    for plane in xplane_pb2.XSpace.FromString(trace.read_bytes()).planes:
        for event in (event for line in plane.lines for event in line.events):
            if plane.event_metadata[event.metadata_id].name == "train":
                stats = {plane.stat_metadata[s.metadata_id].name: s for s in event.stats}
                number = stats["step_num"]
                numbers.append(int(getattr(number, number.WhichOneof("value"))))
    return sorted(numbers)


# ------------------------------------------------------------------ the table of a step


def test_nested_and_simultaneous_work_is_divided_by_hand():
    thread = [(0, 10, "a"), (2, 5, "b"), (3, 4, "c"), (12, 14, "a")]
    alone = list(profile_summary._innermost(thread))
    assert sum(end - start for start, end, part in alone if part == "a") == 7 + 2
    assert sum(end - start for start, end, part in alone if part == "b") == 2
    assert sum(end - start for start, end, part in alone if part == "c") == 1

    # Of the window 1..13, "d" runs in 9..13: 1 beside "a", 2 alone, 1 beside "a".
    parts = profile_summary._divide([*alone, (9, 20, "d")], [(1, 13)])
    assert parts == {"a": 1 + 4 + 0.5 + 0.5, "b": 2, "c": 1, "d": 0.5 + 2 + 0.5}
    assert profile_summary._divide([], [(1, 13)]) == {profile_summary.NOTHING: 12}


def test_the_parts_of_a_traced_step_add_up_to_it(tmp_path):
    with Profiler(tmp_path / "tb", (3, 6), log=lambda line: None) as profiler:
        _train(profiler, range(1, 8))
    summary = profile_summary.read(profile_summary.newest_trace(tmp_path))
    assert summary.steps == [3, 4, 5, 6]
    assert sum(summary.parts.values()) == pytest.approx(summary.step)
    assert summary.parts[profile_summary.PRODUCTS] > 0
    assert 0 < summary.waiting < summary.step

    # At a step's FLOP a second the floor is a second.
    text = "\n".join(profile_summary.report(summary, 10**9, rate=1e9))
    assert "the floor, they take 1000 ms" in text and "| the step |" in text


def test_a_run_that_was_not_profiled_is_refused(tmp_path):
    with pytest.raises(ValueError, match="train with --profile_steps=10,20"):
        profile_summary.newest_trace(tmp_path)


# ------------------------------------------------------------------ TensorBoard with xprof


@pytest.fixture(scope="module")
def tensorboard(tmp_path_factory):
    """A function: route of the Profile page, query -> what TensorBoard answers for a trace."""
    if importlib.util.find_spec("xprof") is None:
        pytest.skip("xprof is not installed: pip install -e '.[profiling]' -c constraints.txt")
    folder = tmp_path_factory.mktemp("tb")
    with Profiler(folder, (3, 5), log=lambda line: None) as profiler:
        _train(profiler, range(1, 8))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        f"--logdir={folder}",
        f"--port={port}",
        "--host=127.0.0.1",
        "--load_fast=false",
    ]
    log = folder.parent / "tensorboard.log"
    with open(log, "w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def get(route, **query):
        url = f"http://127.0.0.1:{port}/data/plugin/profile/{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            return json.loads(gzip.decompress(answer.read()))

    try:
        deadline = time.monotonic() + _DEADLINE_S
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError):
                if get("runs"):
                    break
            time.sleep(0.2)
        else:
            pytest.fail(f"TensorBoard lists no profile: {log.read_text()[-2000:]}")
        yield get
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_tensorboard_lists_the_trace_and_its_tools(tensorboard):
    (run,) = tensorboard("runs")
    tools = set(tensorboard("run_tools", run=run))
    assert {"overview_page", "trace_viewer@", "framework_op_stats"} <= tools


def _data(tensorboard, tool):
    (run,) = tensorboard("runs")
    (host,) = tensorboard("hosts", run=run, tag=tool)
    return tensorboard("data", run=run, tag=tool, host=host["hostname"])


def test_the_trace_viewer_shows_the_steps_and_their_input(tensorboard):
    events = _data(tensorboard, "trace_viewer@")["traceEvents"]
    events = [e for e in events if e["ph"] == "X"]  # the others name processes and threads
    steps = {e["name"]: e for e in events if e["name"].startswith("train ")}
    assert list(steps) == ["train 3", "train 4", "train 5"]
    waits = [e for e in events if e["name"] == "input"]
    for step, wait in zip(steps.values(), waits, strict=True):
        assert step["ts"] <= wait["ts"] and wait["dur"] < step["dur"]
    assert any("MatMul" in e["name"] for e in events)


@pytest.mark.slow
def test_the_tables_know_the_steps_and_the_operations(tensorboard):
    operations, *_ = _data(tensorboard, "framework_op_stats")
    columns = [column["id"] for column in operations["cols"]]
    rows = [
        dict(zip(columns, (cell["v"] for cell in row["c"]), strict=True))
        for row in operations["rows"]
    ]
    (product,) = [row for row in rows if "MatMul" in row["type"]]
    assert product["occurrences"] == 3 and product["total_self_time"] > 0

    _, steps, *_ = _data(tensorboard, "overview_page")
    assert [row["c"][0]["v"] for row in steps["rows"]] == ["train 3", "train 4", "train 5"]
