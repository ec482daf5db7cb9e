"""Own frames in every form: what is read, where it comes from, and what is refused."""

import io
import re
import struct
import tempfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ExifTags, Image, ImageOps

from unsup_video.data import records
from unsup_video.video import frames, inputs, jobs, listing
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video

CLIP = np.random.default_rng(0).integers(0, 256, (5, 6, 7)).astype(np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
FEW = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def read(path, number=None, **options):
    return np.stack(list(inputs.read(Video(str(path), "x", number=number), **options)))


def write_images(folder, clip, names=None, suffix=".png"):
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"{t if names is None else names[t]}{suffix}")
    return folder


def write_gif(path, clip, duration=40, **options):
    first, *others = map(Image.fromarray, clip)
    first.save(path, save_all=True, append_images=others, duration=duration, **options)
    return path


def write_video(path, clip, fps=25.0):
    codec = cv2.VideoWriter_fourcc(*"FFV1")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, clip.shape[2:0:-1])
    for frame in clip:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


# ---------------------------------------------------------------------- the same frames, any form


def test_every_form_gives_the_same_frames(tmp_path):
    np.save(tmp_path / "a.npy", CLIP)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(CLIP))
    np.savez_compressed(tmp_path / "a.npz", anything=CLIP)
    write_images(tmp_path / "a", CLIP)
    write_gif(tmp_path / "a.gif", CLIP)
    write_gif(tmp_path / "a.apng", CLIP, format="PNG")
    write_gif(tmp_path / "pages.tif", CLIP)
    for name in ("a.npy", "fortran.npy", "a.npz", "a", "a.gif", "a.apng", "pages.tif"):
        [video] = inputs.listing(tmp_path / name).videos
        assert video.name == (f"{name}" if name != "a" else "a")
        found = read(video.path)
        grey = found if found.ndim == 3 else found[..., 0]
        np.testing.assert_array_equal(grey, CLIP, name)
        assert found.ndim == 3 or (found == found[..., :1]).all()


def test_colours_are_rgb_in_every_form(tmp_path):
    np.save(tmp_path / "a.npy", COLOURS)
    write_images(tmp_path / "a", COLOURS)
    flat = np.repeat(np.repeat(COLOURS[:, :1, :1], 48, 1), 64, 2)  # that no codec changes much
    write_video(tmp_path / "a.avi", flat)
    write_gif(tmp_path / "a.gif", flat)
    np.testing.assert_array_equal(read(tmp_path / "a.npy"), COLOURS)
    np.testing.assert_array_equal(read(tmp_path / "a"), COLOURS)
    for name in ("a.avi", "a.gif"):
        np.testing.assert_allclose(read(tmp_path / name).astype(int), flat, atol=8)


def test_arrays_of_several(tmp_path):
    np.save(tmp_path / "four.npy", np.stack([CLIP, CLIP[::-1]]))
    np.save(tmp_path / "five.npy", np.stack([COLOURS, COLOURS[::-1]]))
    np.save(tmp_path / "one.npy", np.stack([CLIP, CLIP[::-1]])[..., None])
    np.savez(tmp_path / "z.npz", X=np.stack([CLIP, CLIP[::-1]]), name=["up", "down"])
    found = inputs.listing(tmp_path).videos
    assert [video.name for video in found] == [
        "five.npy#0", "five.npy#1", "four.npy#0", "four.npy#1", "one.npy#0", "one.npy#1",
        "up", "down",
    ]  # fmt: skip
    for video in found:
        clip = COLOURS if video.name.startswith("five") else CLIP
        wanted = clip if video.number == 0 else clip[::-1]
        np.testing.assert_array_equal(np.stack(list(inputs.read(video))), wanted, video.name)


def test_names_are_sorted_as_people_number_them(tmp_path):
    names = ["2", "10", "9b", "9a", "100"]
    write_images(tmp_path / "a", CLIP, names)
    order = [names.index(name) for name in ("2", "9a", "9b", "10", "100")]
    np.testing.assert_array_equal(read(tmp_path / "a"), CLIP[order])
    for folder in ("s10", "s9"):
        write_images(tmp_path / "all" / folder, CLIP)
    assert [video.name for video in inputs.listing(tmp_path / "all").videos] == ["s9", "s10"]


@given(st.lists(st.text("019ab-_", min_size=1, max_size=6), unique=True))
@FEW
def test_natural_order_is_an_order_of_numbers(names):
    found = sorted(names, key=inputs.natural)
    assert sorted(names, key=inputs.natural) == found  # whatever the order on disk
    numbers = [int(name) for name in found if name.isdigit()]
    assert numbers == sorted(numbers)


# ---------------------------------------------------------------------- values


def test_a_range_becomes_0_to_1(tmp_path):
    steps = np.linspace(-3, 5, 5 * 6 * 7).reshape(5, 6, 7)
    np.save(tmp_path / "a.npy", steps)
    np.testing.assert_allclose(read(tmp_path / "a.npy", value_range=(-3, 5)), (steps + 3) / 8, 1e-6)
    np.save(tmp_path / "b.npy", (steps + 3) / 8)
    np.testing.assert_allclose(read(tmp_path / "b.npy"), (steps + 3) / 8, 1e-6)
    np.save(tmp_path / "c.npy", steps > 0)
    np.testing.assert_array_equal(read(tmp_path / "c.npy"), 255 * (steps > 0))


@pytest.mark.parametrize("colour", [False, True])
def test_16_bit_images_need_their_range(tmp_path, colour):
    """12 bits in 16, of which 8-bit programs would leave 16 levels."""
    shape = (3, 6, 7, 3) if colour else (3, 6, 7)
    values = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    (tmp_path / "a").mkdir()
    for t, frame in enumerate(values):
        cv2.imwrite(str(tmp_path / "a" / f"{t}.png"), frame[..., ::-1] if colour else frame)
    found = read(tmp_path / "a", value_range=(0, 4095))
    np.testing.assert_allclose(found, values / 4095, atol=1e-6)
    with pytest.raises(VideoError, match="0.png holds uint16, .*: say the range of all values"):
        read(tmp_path / "a")


@pytest.mark.parametrize("bits", [8, 16])
def test_images_are_turned_as_exif_says(tmp_path, bits):
    values = np.random.default_rng(0).integers(0, 2**bits, (6, 7, 3)).astype(f"uint{bits}")
    for orientation in range(1, 9):
        folder = tmp_path / str(orientation)
        folder.mkdir()
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        tag = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        _, png = cv2.imencode(".png", values[..., ::-1])
        png = png.tobytes()  # its header takes 33 bytes
        chunk = struct.pack(">I", len(tag) - 4) + tag + struct.pack(">I", zlib.crc32(tag))
        for name in ("a.png", "b.png"):
            (folder / name).write_bytes(png[:33] + chunk + png[33:])
        found = read(folder, value_range=None if bits == 8 else (0, 65535))[0]
        channels = [Image.fromarray(np.float32(values[..., k])) for k in range(3)]
        for channel in channels:
            channel.getexif()[ExifTags.Base.Orientation] = orientation
        upright = np.stack([ImageOps.exif_transpose(c) for c in channels], axis=-1)
        np.testing.assert_allclose(found, upright / (1 if bits == 8 else 65535), atol=1e-6)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_tiffs_are_turned_once(tmp_path, orientation):
    """Pillow turns them while loading."""
    values = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for name in ("a.tif", "b.tif"):
        Image.fromarray(values).save(tmp_path / name, exif=exif)
    turned = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]  # quarters, to the left
    np.testing.assert_array_equal(read(tmp_path)[0], np.rot90(values, turned))


def test_pages_of_16_bit_colours(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (3, 6, 7, 3)).astype(np.uint16)
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), [frame[..., ::-1] for frame in values])
    found = read(tmp_path / "a.tif", value_range=(0, 65535))
    np.testing.assert_allclose(found, values / 65535, atol=1e-6)


def test_compressed_pages_of_8_bits_stay_8_bits(tmp_path):
    """Their places in the file, such as 21116, are no numbers of bits."""
    pages = [Image.new("RGBA", (60, 50), (t, 2 * t, 3 * t, 255)) for t in range(30)]
    pages[0].save(
        tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
    )
    np.testing.assert_array_equal(
        read(tmp_path / "a.tif")[:, 0, 0], [[t, 2 * t, 3 * t] for t in range(30)]
    )


def test_the_first_picture_of_a_cameras_file_counts(tmp_path):
    (tmp_path / "a").mkdir()
    for t in range(2):
        grey = [Image.new("RGB", (32, 32), (value, value, value)) for value in (100 * t, 200)]
        grey[0].save(
            tmp_path / "a" / f"{t}.jpg", format="MPO", save_all=True, append_images=grey[1:]
        )
    np.testing.assert_allclose(read(tmp_path / "a")[:, 0, 0, 0], [0, 100], atol=2)


def test_annotations_need_several_sequences(tmp_path):
    np.savez(tmp_path / "a.npz", X=CLIP, label=np.arange(len(CLIP)))
    with pytest.raises(VideoError, match=r"is one sequence, and labels are for N sequences"):
        read(tmp_path / "a.npz")


def test_transparent_pixels_are_black(tmp_path):
    clip = np.concatenate([COLOURS, np.full((*CLIP.shape, 1), 255, np.uint8)], -1)
    clip[:, 0, 0, 3], clip[:, 0, 1, 3] = 0, 51
    wanted = COLOURS.copy()
    wanted[:, 0, 0] = 0
    wanted[:, 0, 1] = COLOURS[:, 0, 1] // 5
    np.testing.assert_allclose(read(write_images(tmp_path / "a", clip)).astype(int), wanted, atol=1)
    pictures = [Image.fromarray(frame).quantize(255) for frame in clip[..., :3]]
    pictures[0].save(
        tmp_path / "a.gif", save_all=True, append_images=pictures[1:], transparency=0, disposal=2
    )
    index = np.stack([np.asarray(picture) for picture in pictures])
    assert (index == 0).any()
    found = read(tmp_path / "a.gif")
    assert found.shape == COLOURS.shape and not found[0][index[0] == 0].any()


def test_an_animation_is_resampled_by_its_times(tmp_path):
    path = write_gif(tmp_path / "a.gif", CLIP, duration=[100, 300, 100, 200, 100])  # 0.8 s
    order = [0, 1, 1, 1, 2, 3, 3, 4]
    np.testing.assert_array_equal(read(path, fps=10)[..., 0], CLIP[order])
    np.testing.assert_array_equal(read(path, fps=5)[..., 0], CLIP[[0, 1, 2, 3]])
    later = inputs.read(Video(str(path), "x", start=0.4))
    np.testing.assert_array_equal(np.stack(list(later))[..., 0], CLIP[2:])


@pytest.mark.parametrize(
    "found, shape, text",
    [
        ((6, 7), (6, 7), ""),
        ((6, 7, 3), (6, 7), "frames of 6x7 made grey"),
        ((6, 7), (6, 7, 3), "frames of 6x7 grey repeated as RGB"),
        ((48, 64, 3), (24, 24, 3), "frames of 48x64 cut to 48x48, resized to 24x24"),
        ((10, 30), (30, 10), "frames of 10x30 cut to 10x3, resized to 30x10"),
    ],
)
def test_what_is_converted_is_said(found, shape, text):
    assert inputs.changes(found, shape) == text
    [frame] = inputs.fitted([np.full(found, 9, np.uint8)], shape)
    assert frame.shape == shape and (frame == 9).all()


def test_clips_are_cut_around_the_centre(tmp_path):
    clip = np.zeros((4, 20, 40), np.uint8)
    clip[:, :, 10:30] = 200
    np.save(tmp_path / "a.npy", clip / np.float32(255))
    [found] = inputs.clips(tmp_path / "a.npy", (10, 10, 1), length=3)
    assert found.frames.shape == (3, 10, 10, 1)
    np.testing.assert_allclose(found.frames, 200 / 255, atol=1e-6)
    assert found.changed == "frames of 20x40 cut to 20x20, resized to 10x10"
    with pytest.raises(ValueError, match="which are no pictures"):
        inputs.clips(tmp_path / "a.npy", (10, 10, 2))


def test_the_frame_rate_of_the_training_data(tmp_path):
    write_gif(tmp_path / "a.gif", CLIP, duration=100)
    np.save(tmp_path / "a.npy", CLIP)
    [found] = inputs.clips(tmp_path / "a.gif", (6, 7), usual_fps=5)
    np.testing.assert_array_equal(found.frames, CLIP[::2])
    assert "resampled to 5 frames per second, as the training data" in found.changed
    [found] = inputs.clips(tmp_path / "a.npy", (6, 7), usual_fps=5)
    assert found.changed == "taken as 5 frames per second, which the training data have"
    write_gif(tmp_path / "a.tif", CLIP)
    [found] = inputs.clips(tmp_path / "a.tif", (6, 7), usual_fps=5)
    np.testing.assert_array_equal(found.frames, CLIP)
    with pytest.raises(VideoError, match="a.npy: its frames have no times"):
        inputs.clips(tmp_path / "a.npy", (6, 7), fps=5)


def test_vectors_are_taken_as_they_are(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(42).reshape(7, 6))
    [clip] = inputs.clips(tmp_path / "a.npy", (6,), 5)
    np.testing.assert_array_equal(clip.frames, np.arange(30).reshape(5, 6))
    for array, shape, message in (
        (np.ones((7, 6)), (5,), r"a.npy: shape \(7, 6\); the model takes \(T, 5\) or \(N, T, 5\)"),
        (np.full((7, 6), np.nan), (6,), "a.npy: it holds NaN"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ValueError, match=message):
            inputs.clips(tmp_path / "a.npy", shape)
    with pytest.raises(ValueError, match="v.mp4: the model takes vectors of 6 numbers"):
        inputs.clips(tmp_path / "v.mp4", (6,))


# ---------------------------------------------------------------------- labels


def test_a_listing_of_a_tree(tmp_path):
    write_images(tmp_path / "jump" / "s1", CLIP)
    write_images(tmp_path / "run" / "s1", CLIP)
    write_gif(tmp_path / "run" / "a.GIF", CLIP)
    write_images(tmp_path, CLIP)
    (tmp_path / "notes.txt").touch()
    found = inputs.listing(tmp_path)
    assert found.classes == ("jump", "run") and found.ignored == ("notes.txt",)
    assert {(video.name, video.label) for video in found.videos} == {
        ("jump/s1", 0), ("run/s1", 1), ("run/a.GIF", 1), (tmp_path.name, -1),
    }  # fmt: skip


def test_what_a_npz_says(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        X=np.stack([CLIP] * 3),
        label=[10, 9, -1],
        group=["g", "g", "h"],
        split=[[1], [2], [0]],
    )
    found = inputs.listing(tmp_path / "a.npz")
    assert found.classes == ("9", "10")
    assert [(v.label, v.group, v.splits) for v in found.videos] == [
        (1, "g", (1,)), (0, "g", (2,)), (-1, "h", (0,)),
    ]  # fmt: skip


# ---------------------------------------------------------------------- bad input

BAD = {
    "empty": (lambda path: path.mkdir(), "no sequence of frames"),
    "text": (lambda path: write_text(path / "a.txt"), "no sequence of frames .*not used: a.txt"),
    "sizes": (
        lambda path: (write_images(path, CLIP), write_images(path, CLIP[:1, 1:], ["7"])),
        "7.png has 5x7 pixels, those before it 6x7",
    ),
    "one": (lambda path: write_images(path, CLIP[:1]), "one frame is no sequence"),
    "one.gif": (lambda path: write_gif(path, CLIP[:1]), "one frame is no sequence"),
    "one.avi": (
        lambda path: write_video(path, np.zeros((1, 48, 64, 3), np.uint8)),
        "one frame is no sequence",
    ),
    "one.png": (
        lambda path: Image.fromarray(CLIP[0]).save(path),
        "one picture: a folder of images is a sequence",
    ),
    "animated": (
        lambda path: (path.mkdir(), write_gif(path / "a.png", CLIP)),
        "a.png holds 5 pictures: give such a file by itself",
    ),
    "nan.npy": (
        lambda path: np.save(path, np.full((3, 4, 4), np.nan)),
        "frame 1 holds a value that is not finite",
    ),
    "range.npy": (
        lambda path: np.save(path, np.array([0.5, 1.2])[:, None, None] * np.ones((4, 4))),
        "frame 2 holds 1.2, outside of the range 0 to 1",
    ),
    "integers.npy": (
        lambda path: np.save(path, np.int64(CLIP)),
        "frame 1 holds int64, .* say the range",
    ),
    "percepts.npy": (
        lambda path: np.save(path, np.zeros((10, 25, 4096), np.float16)),
        r"would be one sequence of 10 frames of 25x4096 .*\(N, T, D\).*data_prep.convert",
    ),
    "flow.npy": (lambda path: np.save(path, np.zeros((2, 9, 8, 8, 2), np.uint8)), "C 1 or 3"),
    "nothing.npy": (lambda path: np.save(path, CLIP[:, :0]), "damaged|empty|shape"),
    "objects.npy": (
        lambda path: np.save(path, np.array([{}]), allow_pickle=True),
        "truncated, damaged, or not a NumPy file",
    ),
    "strange.npz": (
        lambda path: np.savez(path, X=CLIP, xx=CLIP),
        "arrays xx are not known, only X, label",
    ),
    "short.npz": (
        lambda path: np.savez(path, X=np.stack([CLIP] * 2), label=[1]),
        "2 sequences, but 1 labels",
    ),
}


def write_text(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(tmp_path, name):
    write, message = BAD[name]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=f"(?s){re.escape(name)}.*{message}"):
        for video in inputs.listing(tmp_path / name).videos:
            list(inputs.read(video))


def test_a_range_for_8_bits_and_a_bad_one(tmp_path):
    np.save(tmp_path / "a.npy", CLIP)
    with pytest.raises(VideoError, match="a.npy: frame 1 has 8 bits, 0 to 255, and needs no range"):
        read(tmp_path / "a.npy", value_range=(0, 1))
    with pytest.raises(ValueError, match="a range is two numbers, LOWEST,HIGHEST, got 1,1"):
        read(tmp_path / "a.npy", value_range=(1, 1))


def test_two_sequences_of_one_name(tmp_path):
    write_images(tmp_path / "a", CLIP)
    write_images(tmp_path / "a" / "a", CLIP)
    with pytest.raises(ValueError, match="two sequences are named a; rename one"):
        inputs.listing(tmp_path / "a")


@pytest.mark.parametrize("cut", [0, 1, 40, 0.5, 0.98])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.gif", "a.npy", "a.npz"])
def test_a_file_cut_short_is_an_error_with_its_name(tmp_path, name, cut):
    path = tmp_path / name
    big = np.random.default_rng(0).integers(0, 256, (3, 40, 40)).astype(np.uint8)
    if name == "a.npy":
        np.save(path, big)
    elif name == "a.npz":
        np.savez(path, big)
    else:
        write_gif(path, big) if name == "a.gif" else Image.fromarray(big[0]).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data)) if isinstance(cut, float) else cut])
    folder = tmp_path if name[-3:] in ("png", "jpg", "tif", "bmp") else path
    with pytest.raises(ValueError, match=re.escape(name)):
        read(folder)


# ---------------------------------------------------------------------- any input


def values(dtype):
    if np.dtype(dtype).kind == "f":
        return st.floats(-2, 2, width=32) | st.just(np.nan) | st.just(np.inf)
    return None


ANY_ARRAY = st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.float64, bool]).flatmap(
    lambda dtype: arrays.arrays(
        dtype,
        st.lists(st.integers(0, 4), min_size=1, max_size=5).map(tuple),
        elements=values(dtype),
    )
)


@given(ANY_ARRAY, st.sampled_from([None, (0.0, 1.0), (-2.0, 2.0), (0.0, 65535.0)]), st.booleans())
@FEW
def test_any_array_is_read_or_refused_by_name(array, value_range, compressed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"values.np{'z' if compressed else 'y'}")
        np.savez_compressed(path, array) if compressed else np.save(path, array)
        try:
            videos = inputs.listing(path).videos
            found = [np.stack(list(inputs.read(video, None, value_range))) for video in videos]
        except ValueError as error:
            assert path.name in str(error)
            return
    frames_first = array if len(videos) == 1 and videos[0].number is None else np.concatenate(array)
    assert sum(map(len, found)) == len(frames_first)
    wanted = frames_first.reshape(len(frames_first), -1).astype(np.float64)
    if array.dtype not in (np.uint8, bool):
        low, high = value_range or (0, 1)
        wanted = (wanted - low) / (high - low)
        assert wanted.min() > -1e-5 and wanted.max() < 1 + 1e-5
    elif array.dtype == bool:
        wanted *= 255
    got = np.concatenate(found).reshape(len(wanted), -1)
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def picture(mode, size, form, cut=None):
    """The bytes of an image, or of the first part of one."""
    data = io.BytesIO()
    Image.new(mode, size, 7 if mode in ("L", "I;16") else None).save(data, form)
    return data.getvalue()[:cut]


IMAGE = st.builds(
    picture,
    st.sampled_from(["L", "L", "RGB", "RGBA", "I;16"]),
    st.sampled_from([(6, 5), (6, 5), (6, 5), (4, 4)]),
    st.just("PNG"),
    st.sampled_from([None, None, None, 30]),
)
ARRAY = st.sampled_from([(2, 4, 4), (2, 3, 4, 4), (3,), (1, 4, 4)]).map(
    lambda shape: _saved(np.zeros(shape, np.uint8))
)
PARTS = st.sampled_from(["a", "b", "1", "10", ".hidden"])
FILES = st.one_of(
    st.tuples(st.sampled_from(["1.png", "2.PNG", "10.png", ".x.png"]), IMAGE),
    st.tuples(st.sampled_from(["c.npy", "d.npy"]), ARRAY | st.just(b"")),
    st.tuples(st.sampled_from(["e.txt", "f.mp4", "g.gif"]), st.binary(max_size=20)),
)
TREES = st.dictionaries(
    st.lists(PARTS, max_size=2).map("/".join), st.lists(FILES, max_size=4), max_size=4
)


def _saved(array):
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


@pytest.mark.slow
@given(TREES)
@FEW
def test_any_tree_ends_in_records_or_in_messages(tree):
    """Every file is in a record that says where it is from, or a message or listing names it."""
    with tempfile.TemporaryDirectory() as name:
        root, out = Path(name, "in"), Path(name, "out")
        root.mkdir()
        given = {}
        for folder, contents in tree.items():
            for file, data in contents:
                path = root / folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                given[path.relative_to(root).as_posix()] = data
        try:
            found = inputs.listing(root)
        except ValueError as error:
            assert str(root) in str(error)
            return
        sources = {str(Path(video.path).relative_to(root)) for video in found.videos}
        for file in given:
            hidden = [part for part in Path(file).parents if part.name.startswith(".")]
            unused = {file, *(f"{part.as_posix()}/" for part in hidden)} & set(found.ignored)
            assert unused or file in sources or str(Path(file).parent) in sources, file
        job = frames.Frames(size=(3, 3), colour=False)
        read, refused = {}, {}
        for video in found.videos:
            try:
                [record] = job.records(video)
                read[video.name] = record.frames
            except VideoError as error:
                assert error.path == video.path and error.reason
                refused[video.name] = error
        assert read.keys() | refused.keys() == {video.name for video in found.videos}
        for video in found.videos:
            if video.name in read and Path(video.path).is_dir():
                images = [p for p in Path(video.path).glob("[!.]*") if p.suffix.lower() == ".png"]
                assert len(read[video.name]) == len(images) > 1
        if read:
            jobs.run(job, found, out, max_bad_fraction=1)
            assert {entry.name for entry in records.load_index(out)} == set(read)
            listed = (out / records.QUARANTINE).read_text() if refused else ""
            assert listed.count('"used": false') == len(refused)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["a.avi", "a.avi x", "b c.mp4 1"])))
@FEW
def test_any_list_is_read_or_refused_by_its_line(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.txt")
        path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
        Path(folder, "a.avi").touch()
        try:
            found = listing.text_list(path, allow_missing=True)
        except ValueError as error:
            assert str(path) in str(error)
            return
    assert [video.name for video in found.videos] == ["a.avi"]
    for video in found.videos:
        assert video.label == -1 or found.classes[video.label] == "x"
    used = [line for line in path_lines(lines) if line.split()[0] not in ("a.avi",)]
    assert len(found.missing) == len(used)


def path_lines(lines):
    return [line.strip() for text in lines for line in text.split("\n") if line.strip()]
