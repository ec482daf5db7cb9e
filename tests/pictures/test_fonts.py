import warnings

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from unsup_video.evaluation import action_pictures, few_labels
from unsup_video.pictures import fonts, visualize

RARE = "\U000118a0\U000118a1"  # Warang Citi, which no common font has
NAMES = ["a $x^2$ $ \\", "50% $_{", "日本", RARE]


@pytest.fixture(autouse=True)
def no_warnings(caplog):
    """Matplotlib warns of characters that it cannot draw, and of layouts that fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield
    assert not caplog.records  # where it tells of fonts


@pytest.fixture
def rare_font(tmp_path):
    """A font that draws RARE as full boxes, and nothing else, is installed."""
    pen = TTGlyphPen(None)
    for x, y in ((0, 0), (0, 1000), (1000, 1000), (1000, 0)):
        (pen.lineTo if pen.points else pen.moveTo)((x, y))
    pen.closePath()
    box, empty = pen.glyph(), TTGlyphPen(None).glyph()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "box"])
    font.setupCharacterMap({ord(character): "box" for character in RARE})
    font.setupGlyf({".notdef": empty, "box": box})
    font.setupHorizontalMetrics({".notdef": (500, 0), "box": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Rare", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "rare.ttf")
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(tmp_path / "rare.ttf")
    fonts._families.cache_clear()
    yield
    font_manager.fontManager.ttflist[:] = before
    fonts._families.cache_clear()


def ink(path):
    with Image.open(path) as picture:
        return int((np.asarray(picture.convert("L")) < 128).sum())


def written(path, text):
    with visualize.figure(path, (3, 1), [text]) as figure:
        figure.text(0.1, 0.3, text)
    return ink(path)


def test_what_no_font_has_is_named_by_its_code_points():
    assert fonts.legible("Grüße, Жук") == "Grüße, Жук"
    assert fonts.legible(f"a{RARE}b{RARE[0]}") == "a[U+118A0 U+118A1]b[U+118A0]"
    assert fonts.legible("a\tb\udce9") == "a[U+0009]b[U+DCE9]"  # neither can be drawn


def test_an_installed_font_draws_what_the_usual_one_lacks(rare_font, tmp_path):
    assert fonts.legible(f"a{RARE}") == f"a{RARE}"
    # Two boxes of a black square of 10 points each, at 110 dots an inch.
    side = 10 * 110 / 72
    assert written(tmp_path / "a.png", RARE) == pytest.approx(2 * side**2, rel=0.15)
    font, (text,) = fonts.pillow([RARE], 20)
    assert text == RARE and font.getname()[0] == "Rare"


def test_pillow_gets_what_it_can_draw():
    font, texts = fonts.pillow(["truth", "Жук", RARE], 13)
    assert texts == ["truth", "Жук", "[U+118A0 U+118A1]"]
    assert font.getname()[0] == "DejaVu Sans"
    strip = visualize.strip([(RARE, [np.ones((64, 64))]), ("\udce9\n", [None])])
    assert strip.width > 12 + font.getlength(texts[2]) + 64


def test_a_dollar_is_a_dollar(tmp_path):
    """A formula in mathematical italics has other shapes than the text."""
    formula, text = "$abc$", r"\$abc\$"
    with visualize.figure(tmp_path / "a.png", (3, 1)) as figure:
        figure.text(0.1, 0.3, formula)
    figure = matplotlib.figure.Figure((3, 1), layout="constrained")
    figure.text(0.1, 0.3, text)
    figure.savefig(tmp_path / "b.png", dpi=110)
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_shortened_keeps_both_ends():
    assert fonts.shortened("a" * 44) == "a" * 44
    short = fonts.shortened("first" + "x" * 300 + "last", 20)
    assert short == "firstxxxx..xxxxxlast" and len(short) == 20


@pytest.mark.parametrize("names", [NAMES, ["x" * 250, "y" * 250, "z", "日" * 80]])
def test_pictures_of_classes_of_any_name(names, tmp_path):
    counts = np.arange(16).reshape(4, 4)
    action_pictures.confusion(counts, names, f"{names[0]}, test", tmp_path / "confusion.png")
    frames = np.arange(1, 5)
    ranking = [(name, k, 0.25) for k, name in enumerate(names)]
    shown = {2: np.zeros((16, 24, 3), np.uint8)}
    for pictures in (None, shown):
        action_pictures.over_time(
            frames,
            np.full((4, 4), 0.25),
            4,
            ranking,
            names[0],
            "frame",
            tmp_path / "time.png",
            pictures,
        )
    action_pictures.over_steps({"step": [], "steps_so_far": []}, names[0], tmp_path / "steps.png")
    summaries = [
        few_labels.Summary(name, k, 0.1, 0.0, (50.0,), 50.0, 1.0, None, None, None)
        for name in names
        for k in (1, 2)
    ]
    few_labels.draw(summaries, tmp_path / "labels.png")
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.width < 3000 and picture.height < 3000
            assert (np.asarray(picture.convert("L")) < 128).sum() > 1000
    assert len(list(tmp_path.glob("*.png"))) == 4
