"""Windows of data sets whose frame i of video v carries v and i, up to the batches of a run."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from unsup_video.configs import base
from unsup_video.data import frames, records, sources, windows
from unsup_video.data.frames import Frames

LENGTHS = [7, 3, 12, 4, 20, 5, 4, 9]
T = 4
FITTING = sum(n // T for n in LENGTHS)  # windows side by side
ALL = [(v, first) for v, n in enumerate(LENGTHS) for first in range(n - T + 1)]
SIDE_BY_SIDE = [(v, T * k) for v, n in enumerate(LENGTHS) for k in range(n // T)]


def video(v, frames, shape=(3,), dtype="uint8"):
    """Frame i starts with v and i; the rest counts up from them."""
    values = np.arange(frames)[:, None] + np.arange(np.prod(shape))[None]
    values[:, 0] = v
    return values.astype(dtype).reshape(frames, *shape)


def write(folder, lengths=LENGTHS, shape=(3,), scale=1.0, dtype="uint8", scales=None, **options):
    return records.write(
        folder,
        [
            records.Record(
                video(v, n, shape, dtype), scales and scales[v], f"v{v}", v % 2, f"g{v // 2}"
            )
            for v, n in enumerate(lengths)
        ],
        len(lengths),
        "numbered",
        {},
        dtype=dtype,
        scale=scale,
        classes=("a", "b"),
        **{"shards": 3, **options},
    )


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "numbered")
    return tmp_path / "numbered"


def found(dataset, take=-1):
    """[(sequence, first)] of windows, each of which holds exactly the frames that it says."""
    places = []
    for window in dataset.take(take).as_numpy_iterator():
        v, first, frames = window["sequence"], window["first"], window["frames"]
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, video(v, LENGTHS[v])[first : first + T])
        places.append((int(v), int(first)))
    return places


def every(folder, length, stride=None, chosen=None):
    """Reads every window."""
    return windows.at(folder, length, windows.starts(folder, length, stride, chosen))


def mask(*sequences):
    chosen = np.zeros(len(LENGTHS), bool)
    chosen[list(sequences)] = True
    return chosen


# ---------------------------------------------------------------------- places


def test_lengths_and_what_is_too_short(folder, tmp_path):
    assert records.lengths(folder).tolist() == LENGTHS
    assert np.flatnonzero(windows.too_short(folder, 5)).tolist() == [1, 3, 6]
    same = tmp_path / "same"
    records.write(same, [video(v, 6) for v in range(3)], 3, "numbered", {})  # without an index
    assert records.lengths(same).tolist() == [6, 6, 6] and not windows.too_short(same, 6).any()


@pytest.mark.parametrize("stride", [None, 1, 3, 9])
def test_every_window_at_a_stride(folder, stride):
    expected = [
        (v, first) for v, n in enumerate(LENGTHS) for first in range(0, n - T + 1, stride or T)
    ]
    assert windows.starts(folder, T, stride).tolist() == [list(place) for place in expected]
    assert found(every(folder, T, stride)) == expected


def test_windows_of_chosen_sequences(folder):
    assert found(every(folder, T, 3, mask(1, 4, 5))) == [
        *((4, first) for first in (0, 3, 6, 9, 12, 15)),
        (5, 0),
    ]


def test_shards_without_a_wanted_window_are_not_read(folder):
    wanted = windows.starts(folder, T, chosen=mask(0, 7))
    shard = folder / "00001-of-00003.tfrecord"  # sequences 2 to 4
    shard.write_bytes(bytes(shard.stat().st_size))
    assert found(windows.at(folder, T, wanted)) == [(0, 0), (7, 0), (7, 4)]
    with pytest.raises(tf.errors.DataLossError):
        found(every(folder, T))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda f: every(f, 0), "length of a window must be at least 1, got 0"),
        (
            lambda f: windows.training(Frames(f), 0, 1),
            "length of a window must be at least 1, got 0",
        ),
        (lambda f: windows.starts(f, 2, 0), "stride of a window must be at least 1, got 0"),
        (lambda f: windows.starts(f, 21), "windows of 21 frames are wanted, the longest .* has 20"),
        (
            lambda f: windows.training(Frames(f, mask(0, 1)), 8, 1),
            "of 8 frames .* longest .* has 7",
        ),
        (lambda f: windows.training(Frames(f, mask()), 4, 1), "none of its 8 sequences is chosen"),
        (lambda f: windows.training(Frames(f), 4, 1, start=-1), "start must be at least 0, got -1"),
    ],
)
def test_bad_arguments(folder, call, message):
    with pytest.raises(ValueError, match=message):
        call(folder)


# ---------------------------------------------------------------------- training


def training(folder, take, seed=3, start=0, chosen=None, **options):
    """The first windows of a stream, as `found` gives them."""
    stream = windows.training(Frames(folder, chosen), T, seed, start, **options)
    return found(stream, take)


@pytest.fixture(params=["held", "", "GZIP"])
def stored(request, tmp_path, monkeypatch):
    """Data that are held in memory, or read from shards without compression or of GZIP."""
    if request.param != "held":
        monkeypatch.setattr(frames, "_MEMORY", 0)
    write(tmp_path / "stored", compression=request.param.replace("held", "GZIP"))
    assert Frames(tmp_path / "stored").is_held == (request.param == "held")
    return tmp_path / "stored"


def test_an_epoch_takes_every_window_once(stored):
    stream = training(stored, 4 * len(ALL))
    epochs = [stream[k * len(ALL) : (k + 1) * len(ALL)] for k in range(4)]
    for epoch in epochs:
        assert sorted(epoch) == ALL != epoch
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_an_epoch_takes_at_most_max_per_video_windows_of_each_sequence(stored):
    per_epoch = [min(2, max(0, n - T + 1)) for n in LENGTHS]
    size = sum(per_epoch)
    stream = training(stored, 60 * size, max_per_video=2)
    for epoch in np.split(np.array(stream), 60):
        np.testing.assert_array_equal(np.bincount(epoch[:, 0]), per_epoch)
        assert len({tuple(place) for place in epoch.tolist()}) == size
    assert set(stream) == set(ALL)


def chi_square(counts, expected):
    """The probability of counts that differ more than these from `expected`, by chance."""
    return stats.chisquare(counts, np.sum(counts) * expected / np.sum(expected)).pvalue


def test_every_window_of_videos_of_any_length_is_as_likely(folder):
    """The first examples of many epochs: over the places, and over the videos."""
    number = {place: i for i, place in enumerate(ALL)}
    stream = windows.training(Frames(folder), T, seed=3).take(150 * len(ALL)).batch(1000)
    places = np.concatenate(
        [np.stack([batch["sequence"], batch["first"]], 1) for batch in stream.as_numpy_iterator()]
    )
    drawn = places.reshape(150, len(ALL), 2)[:, :3].reshape(-1, 2)
    counts = np.bincount([number[tuple(place)] for place in drawn.tolist()], minlength=len(ALL))
    assert 0.001 < chi_square(counts, np.ones(len(ALL))) < 0.999
    videos = np.bincount(drawn[:, 0], minlength=len(LENGTHS))
    fits = np.array([max(0, n - T + 1) for n in LENGTHS])
    assert 0.001 < chi_square(videos[fits > 0], fits[fits > 0]) < 0.999
    assert not videos[fits == 0].any()


@pytest.mark.parametrize("max_per_video", [None, 2])
def test_a_resumed_stream_goes_on_where_it_was(stored, max_per_video):
    epoch = len(ALL) if max_per_video is None else sum(min(2, max(0, n - T + 1)) for n in LENGTHS)
    whole = training(stored, 4 * epoch, max_per_video=max_per_video)
    for start in (1, epoch - 1, epoch, 3 * epoch + 5):
        assert (
            training(stored, 4 * epoch - start, start=start, max_per_video=max_per_video)
            == whole[start:]
        )
    assert len(training(stored, 2, start=10**15)) == 2  # nothing is read of what came before


def test_held_and_read_from_the_disk_the_stream_is_the_same(tmp_path, monkeypatch):
    options = {"dtype": "float16", "scale": 0.25, "scales": [None, 3.0, 0.1, *[None] * 5]}
    found = {}
    for compression in ("", "GZIP"):
        write(tmp_path / f"x{compression}", compression=compression, **options)
        for memory in (1 << 30, 0):
            monkeypatch.setattr(frames, "_MEMORY", memory)
            stream = windows.training(Frames(tmp_path / f"x{compression}"), T, 3, start=7)
            found[compression, memory] = [
                window["frames"] for window in stream.take(50).as_numpy_iterator()
            ]
    first, *others = found.values()
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_stream_is_a_function_of_its_seed(folder):
    streams = []
    for program_seed in (1, 2):
        tf.random.set_seed(program_seed)
        streams.append(training(folder, 2 * len(ALL)))
        after = tf.random.uniform([]).numpy()  # nor does reading disturb the program's own
        tf.random.set_seed(program_seed)
        assert tf.random.uniform([]).numpy() == after
    assert streams[0] == streams[1] != training(folder, 2 * len(ALL), seed=4)


def test_training_reads_nothing_but_the_chosen(stored):
    stream = training(stored, 26, chosen=mask(0, 1, 2))
    assert sorted(v for v, _ in stream) == 8 * [0] + 18 * [2]  # 1 is too short


# ---------------------------------------------------------------------- values


@pytest.mark.parametrize(
    "shape, dtype, scale, scales",
    [
        ((2, 3), "uint8", records.UNIT, None),
        ((6,), "uint8", 1.0, [0.1 * (v + 1) for v in range(len(LENGTHS))]),
        ((2, 1, 3), "float16", 1.0, None),
        ((6,), "float16", 0.25, [None, 3.0, *[None] * 6]),
    ],
)
def test_stored_values_stand_for_value_times_scale(tmp_path, shape, dtype, scale, scales):
    write(tmp_path / "x", shape=shape, dtype=dtype, scale=scale, scales=scales)
    seen = 0
    for window in every(tmp_path / "x", T, 2).as_numpy_iterator():
        v, first = window["sequence"], window["first"]
        factor = np.float32((scales and scales[v]) or scale)
        stored = video(v, LENGTHS[v], shape, dtype)[first : first + T].reshape(T, 6)
        np.testing.assert_array_equal(window["frames"], stored.astype(np.float32) * factor)
        seen += 1
    assert seen == sum(max(0, (n - T) // 2 + 1) for n in LENGTHS)


def test_pixels_stay_within_0_and_1(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(1, 4, 64)
    records.write(tmp_path / "x", values, 1, "pixels", {})
    frames = next(every(tmp_path / "x", 4).as_numpy_iterator())["frames"]
    np.testing.assert_allclose(frames.ravel(), np.arange(256) / 255, atol=1e-7)
    assert frames.min() == 0 and frames.max() == 1


# ---------------------------------------------------------------------- as the source of a run


def a_config(path, **data):
    config = base.get_config()
    config.data.records = str(path)
    config.data.frames_in, config.data.frames_out = 3, 1
    config.model.output = "linear"
    config.data.update(data)
    return config


def where(clips):
    """[(video, first frame)] of clips (N, T, 3), each of which is a window of one video."""
    assert clips.dtype == np.float32
    for clip in clips:
        v, first = int(clip[0, 0]), int(clip[0, 1]) - 1
        np.testing.assert_array_equal(clip, video(v, LENGTHS[v])[first : first + T])
    return [(int(clip[0, 0]), int(clip[0, 1]) - 1) for clip in clips]


def test_one_data_set_is_divided_for_a_run(folder):
    source = sources.build(a_config(folder))
    parts = {
        "train": {
            v
            for batch in source.train(5, start=0).take(30).as_numpy_iterator()
            for v, _ in where(batch)
        },
        **{
            name: {v for v, _ in where(source.evaluation(name, 100))}
            for name in ("validation", "test")
        },
    }
    groups = {name: {v // 2 for v in videos} for name, videos in parts.items()}
    assert set.union(*parts.values()) == {0, 2, 3, 4, 5, 6, 7}  # 1 is too short
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set.union(*groups.values()))
    sizes = source.description["parts"]
    assert sum(size["sequences"] for size in sizes.values()) == len(LENGTHS)
    assert sum(size["too_short"] for size in sizes.values()) == 1
    assert sum(size["windows"] for size in sizes.values()) == FITTING
    assert source.frame_shape == (3,) and source.mean_frame.shape == (3,)


def test_batches_of_a_run_are_the_stream_from_any_start(tmp_path):
    for name in ("train", "validation", "test"):
        write(tmp_path / name)
    config = a_config(tmp_path)
    source = sources.build(config)
    whole = training(tmp_path / "train", 40, config.seed)
    batches = list(source.train(5, start=7).take(6).as_numpy_iterator())
    assert [batch.shape for batch in batches] == 6 * [(5, T, 3)]
    assert where(np.concatenate(batches)) == whole[7:37]


def test_evaluation_is_spread_over_the_sequences(tmp_path):
    for name in ("train", "validation", "test"):
        write(tmp_path / name)
    source = sources.build(a_config(tmp_path))
    assert where(source.evaluation("test", 4)) == [SIDE_BY_SIDE[k * FITTING // 4] for k in range(4)]
    assert where(source.evaluation("test", FITTING + 1)) == SIDE_BY_SIDE


def test_values_outside_of_0_and_1_need_a_squared_loss(tmp_path):
    for name in ("train", "validation", "test"):
        write(tmp_path / name)
    config = a_config(tmp_path)
    config.model.output = "logistic"
    with pytest.raises(ValueError, match=r"values from 0 to 21, .*\[0, 1\].*model.output=linear"):
        sources.build(config)


def test_bad_records(folder, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere.*python -m data_prep\.percepts .*nowhere"
    ):
        sources.build(a_config(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="split 1 was asked for, but the data set has no official"):
        sources.build(a_config(folder, split=1))
    with pytest.raises(ValueError, match="windows of 31 frames .* has 12: nothing for train"):
        sources.build(a_config(folder, frames_in=30))
    records.write(tmp_path / "unnamed", [video(0, 8)], 1, "numbered", {})
    with pytest.raises(ValueError, match="have no names.*train/, validation/, test/"):
        sources.build(a_config(tmp_path / "unnamed"))
    for name, shape in {"train": (3,), "validation": (3,), "test": (4,)}.items():
        write(tmp_path / "three" / name, shape=shape)
    with pytest.raises(ValueError, match=r"frames of \(4,\), but those of .*train are \(3,\)"):
        sources.build(a_config(tmp_path / "three"))
    with pytest.raises(ValueError, match="split=2 does not go with .*divided already"):
        sources.build(a_config(tmp_path / "three", split=2))


def test_data_whose_replacement_was_killed_are_found(folder, tmp_path, killed_while_replaced):
    killed_while_replaced(folder)
    assert sources.split(a_config(folder), "test").chosen.any()
    write(tmp_path / "three" / "test")
    killed_while_replaced(tmp_path / "three" / "test")
    assert sources.split(a_config(tmp_path / "three"), "test").folder == tmp_path / "three" / "test"


def test_generated_parts_are_of_their_own_digits(tmp_path):
    for name, digits_of in {"train": "train", "validation": "test", "test": "test"}.items():
        source = {"generator": {}, "split": digits_of}
        records.write(tmp_path / name, [video(0, 8)], 1, "moving_mnist", source)
    with pytest.raises(ValueError, match="generated from test digits, so it is not for validation"):
        sources.build(a_config(tmp_path))
