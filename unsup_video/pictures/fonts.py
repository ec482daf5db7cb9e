"""Fonts for text in pictures: draws names in any script, without interpreting them."""

import contextlib
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import font_manager
from PIL import ImageFont

_LAST_RESORT = "Last Resort"  # fonts of this name draw every character as a box


@contextlib.contextmanager
def literal(texts: Iterable[str] = ()) -> Iterator[None]:
    """Makes matplotlib draw text literally in this context: "$" starts no formula.

    Args:
        texts: the texts to draw. Characters that the usual font lacks are drawn in the installed
            font that has most of them.
    """
    families = [*matplotlib.rcParams["font.family"], *_families(_missing("".join(texts), _usual()))]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": families}):
        yield


def legible(text: str) -> str:
    """Replaces characters that no installed font has by their code points: "[U+65E5]"."""
    missing = _missing(text, _usual())
    for family in _families(missing):
        missing -= _characters(_installed()[family])
    return _spelled_out(text, missing)


def pillow(texts: Iterable[str], size: float) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """Returns one font for Pillow, and the texts in a form that this font can draw.

    Args:
        texts: the texts to draw. size: of the font in pixels.
    """
    texts = list(texts)
    together = "".join(texts)
    if together.isascii() and together.isprintable():
        return ImageFont.load_default(size), texts
    families = _families(_missing(together, _usual()))
    path = _installed()[families[0]] if families else _usual()
    missing = _missing(together, path)
    return ImageFont.truetype(path, size), [_spelled_out(text, missing) for text in texts]


def shortened(text: str, limit: int = 44) -> str:
    """Shortens `text` to `limit` characters by leaving out its middle."""
    if len(text) <= limit:
        return text
    end = (limit - 2) // 2
    return f"{text[: limit - 2 - end]}..{text[-end:]}"


def width(text: str) -> int:
    """Returns the columns that `text` takes; wide characters, such as those of CJK, take two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _spelled_out(text, missing):
    def code_points(match):
        return f"[{' '.join(f'U+{ord(character):04X}' for character in match[0])}]"

    pattern = "".join(map(re.escape, sorted(missing)))
    return re.sub(f"[{pattern}]+", code_points, text) if pattern else text


def _missing(text, path):
    """Returns the characters that the font file cannot draw, or that no font could."""
    return frozenset(text) - frozenset(filter(str.isprintable, _characters(path)))


def _usual():
    return font_manager.findfont(font_manager.FontProperties())


def _installed():
    """Returns {family: font file}; families with an upright font of normal weight come first."""
    entries = sorted(
        font_manager.fontManager.ttflist,
        key=lambda entry: (entry.weight != 400, entry.style != "normal", entry.name, entry.fname),
    )
    paths = {}
    for entry in entries:
        if not entry.name.startswith(_LAST_RESORT):
            paths.setdefault(entry.name, entry.fname)
    return paths


@functools.lru_cache(maxsize=4)  # small, because a large font has tens of thousands of characters
def _characters(path):
    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (RuntimeError, OSError):  # a format without outlines, such as emoji; or a removed file
        return frozenset()


@functools.cache
def _families(missing):
    """Returns few installed fonts that together have as many of these characters as possible."""
    missing = frozenset(filter(str.isprintable, missing))
    if not missing:
        return ()
    having = {name: missing & _characters(path) for name, path in _installed().items()}
    chosen = []
    while having[best := max(having, key=lambda name: len(having[name]))]:
        chosen.append(best)
        having = {name: left - having[best] for name, left in having.items()}
    return tuple(chosen)
