"""Text in pictures: names in any script, drawn as they are."""

import contextlib
import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator

import matplotlib
from matplotlib import font_manager
from PIL import ImageFont

_LAST_RESORT = "Last Resort"  # fonts of this name draw every character, as a box with its block


@contextlib.contextmanager
def literal(texts: Iterable[str] = ()) -> Iterator[None]:
    """Within it, matplotlib draws text as it is: no formulas between dollars.

    Args:
        texts: what is to be drawn. Characters that the usual font lacks come from the installed
            font that has the most of them.
    """
    families = [*matplotlib.rcParams["font.family"], *_families(_missing("".join(texts), _usual()))]
    with matplotlib.rc_context({"text.parse_math": False, "font.family": families}):
        yield


def legible(text: str) -> str:
    """`text` with every character that no installed font has as its code point: "[U+65E5]"."""
    missing = _missing(text, _usual())
    for family in _families(missing):
        missing -= _characters(_installed()[family])
    return _spelled_out(text, missing)


def pillow(texts: Iterable[str], size: float) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """A font for Pillow, which takes one at a time, and the texts as it can draw them.

    Args:
        texts: what is to be drawn. size: of the font in pixels.
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
    """`text` with its middle left out where it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    end = (limit - 2) // 2
    return f"{text[: limit - 2 - end]}..{text[-end:]}"


def width(text: str) -> int:
    """The columns that `text` takes, of which wide characters such as those of CJK take two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _spelled_out(text, missing):
    def code_points(found):
        return f"[{' '.join(f'U+{ord(character):04X}' for character in found[0])}]"

    pattern = "".join(map(re.escape, sorted(missing)))
    return re.sub(f"[{pattern}]+", code_points, text) if pattern else text


def _missing(text, path):
    """The characters that the font file cannot draw, or that no font could."""
    return frozenset(text) - frozenset(filter(str.isprintable, _characters(path)))


def _usual():
    return font_manager.findfont(font_manager.FontProperties())


def _installed():
    """Family -> a file of it, families with an upright font of normal weight first."""
    entries = sorted(
        font_manager.fontManager.ttflist,
        key=lambda entry: (entry.weight != 400, entry.style != "normal", entry.name),
    )
    found = {}
    for entry in entries:
        if not entry.name.startswith(_LAST_RESORT):
            found.setdefault(entry.name, entry.fname)
    return found


@functools.lru_cache(maxsize=4)  # a large font has tens of thousands
def _characters(path):
    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (RuntimeError, OSError):  # a format without outlines, as of coloured signs; or gone
        return frozenset()


@functools.cache
def _families(missing):
    """The fewest installed fonts, about, that have as many of these characters as can be."""
    missing = frozenset(filter(str.isprintable, missing))
    if not missing:
        return ()
    having = {name: missing & _characters(path) for name, path in _installed().items()}
    chosen = []
    while having[best := max(having, key=lambda name: len(having[name]))]:
        chosen.append(best)
        having = {name: found - having[best] for name, found in having.items()}
    return tuple(chosen)
