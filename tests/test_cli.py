"""How the commands end with an error."""

import sys

import pytest

from unsup_video import cli


def fail(argv):
    try:
        return {}["what was asked for"]
    except KeyError:
        raise ValueError("x.json: the field is missing") from None


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_is_one_line_and_its_whole_traceback_is_shown_on_request(
    capsys, monkeypatch, debug
):
    monkeypatch.setenv(cli.DEBUG, "1" if debug else "")
    with pytest.raises(SystemExit) as ended:
        cli._one_line_errors(fail)(sys.argv)
    assert ended.value.code == "error: x.json: the field is missing"
    shown = capsys.readouterr().err
    for text in ("Traceback", "in fail", "KeyError: 'what was asked for'",
                 "ValueError: x.json: the field is missing"):
        assert (text in shown) is debug
