"""Runs a command: parses absl flags, prints errors as one line, and suggests what to run next."""

import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from typing import TypeVar

import tensorflow as tf
from absl import app, flags, logging
from ml_collections import ConfigDict

from unsup_video.utils import calls

_Number = TypeVar("_Number", int, float)

DEBUG = "UNSUP_VIDEO_DEBUG"  # an environment variable, because errors occur before flags are read


def run(main) -> None:
    """Runs `main(argv)`, and turns errors in flags, values, files or data into `error: ...`.

    After such an error the exit status is 1. With the environment variable `DEBUG` set, the
    traceback comes first, including the errors that led to this one.

    A leading `~` in a flag, an argument or a field of a config is expanded to the home folder,
    because shells do not expand it behind `--flag=`.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    logging.set_verbosity(logging.WARNING)  # TensorFlow's notes hide ours
    tf.get_logger().setLevel("WARNING")
    app.run(_one_line_errors(main), flags_parser=_one_line_errors(_parse))


def config_from_file(flag: flags.FlagHolder) -> ConfigDict:
    """Returns the config that a `config_flags.DEFINE_config_file` flag names, as its file has it.

    The flag's own value includes the changes made on the command line.
    """
    parsed = flags.FLAGS[flag.name]
    return _expanded(parsed.parser.parse(parsed.config_filename))


def check_arguments(argv: Sequence[str]) -> None:
    """Raises ValueError for an argument that is not a flag; the first one is the program."""
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")


def numbers(flag: flags.FlagHolder, kind: type[_Number]) -> tuple[_Number, ...] | None:
    """Returns the numbers of a list flag; None if it is not given.

    Raises ValueError if they are not of that kind, int or float.
    """
    if flag.value is None:
        return None
    try:
        return tuple(kind(text) for text in flag.value)
    except ValueError:
        kinds = {int: "whole numbers", float: "numbers"}
        text = ",".join(flag.value)
        raise ValueError(f"--{flag.name}={text}: {kinds[kind]} expected") from None


def height_and_width(flag: flags.FlagHolder, example: str = "240x320") -> tuple[int, int] | None:
    """Returns (height, width) of a flag HEIGHTxWIDTH; None if it is not given.

    Raises ValueError if it is something else.
    """
    if flag.value is None:
        return None
    size = re.fullmatch(r"(\d+)x(\d+)", flag.value)
    if not size:
        raise ValueError(
            f"--{flag.name} must be HEIGHTxWIDTH, such as {example}, got {flag.value!r}"
        )
    return int(size[1]), int(size[2])


def define_range() -> flags.FlagHolder:
    """The flag --range of commands that read frames; `value_range` reads it."""
    return flags.DEFINE_list(
        "range",
        None,
        "LOWEST,HIGHEST of all values that are no 8-bit pixels; default: 0,1 of floating-point "
        "numbers. 16-bit images need it.",
    )


def value_range(flag: flags.FlagHolder) -> tuple[float, float] | None:
    """(lowest, highest) of `define_range`; None where it is not given.

    Raises ValueError where it is not two numbers.
    """
    if flag.value is None:
        return None
    try:
        low, high = map(float, flag.value)
    except ValueError:
        raise ValueError(
            f"--{flag.name} must be LOWEST,HIGHEST, such as 0,65535, got {','.join(flag.value)!r}"
        ) from None
    return low, high


def command(program: str, *arguments: object, note: str = "") -> str:
    """Returns a command for a shell, with its arguments quoted.

    Args:
        program: "tensorboard", or the name of a Python module.
        note: a comment to append.
    """
    start = [program] if program == "tensorboard" else ["python", "-m", program]
    line = shlex.join([*start, *map(str, arguments)])
    return f"{line}    # {note}" if note else line


def print_next(*commands: str) -> None:
    """Prints suggestions for what to run next; each is a line from `command`."""
    print("next:", *commands, sep="\n  ")


def _parse(argv):
    try:
        arguments = flags.FLAGS(argv)
    except AttributeError as error:  # a locked config refuses an unknown field with this error
        cause = error.args[0]  # a KeyError, with a hint
        text = cause.args[0] if isinstance(cause, KeyError) else cause
        raise ValueError(f"no such config field: {text}") from None
    except flags.IllegalFlagValueError as error:  # it may hold the traceback of a config file
        head, traced, rest = str(error).partition("Traceback (most recent call last)")
        if not traced:
            raise
        head = head.partition(": Error")[0]
        raise ValueError(f"{head}: {rest.strip().splitlines()[-1]}") from error
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if (expanded := _expanded(flag.value)) != flag.value:
            flag.value = expanded
    return _expanded(arguments)


def _expanded(value):
    """Expands `~` to the home folder in the value of a flag; changes a config in place."""
    if isinstance(value, str):
        return os.path.expanduser(value)
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    if isinstance(value, ConfigDict):
        for name, field in value.items():
            if (expanded := _expanded(field)) != field:
                value[name] = expanded
    return value


def _one_line_errors(function):
    def guarded(argv):
        try:
            return function(argv)
        except (ValueError, OSError, flags.Error) as error:
            _exit(error, _text(error))
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            # In distributed training, this is how the other processes learn that one has ended.
            _exit(
                error,
                "another process of this run is gone, and its output says why "
                f"({error.message.splitlines()[0]}). Start all processes again with the same "
                "commands: they resume from the last checkpoint",
            )
        except tf.errors.DataLossError as error:
            what = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", error.message.splitlines()[0])
            _exit(
                error,
                f"a data set is damaged ({what}); python -m data_prep.verify DATA_SET names the "
                "file",
            )
        except tf.errors.ResourceExhaustedError as error:
            if what := re.search(r"OOM when \S+ \S+ with shape\S+", error.message):
                _exit(error, f"out of memory ({what[0]}): a smaller model or batch needs less")
            _exit(error, error.message.splitlines()[0])  # such as a full disk
        except tf.errors.OpError as error:
            cause = calls.cause(error)
            if not isinstance(cause, (ValueError, OSError)):
                raise
            _exit(error, _text(cause))

    return guarded


def _text(error):
    """Returns the message of an error. An OSError of our own has all of it in strerror; str() adds
    "[Errno 28]"."""
    own = isinstance(error, OSError) and error.strerror and not error.filename
    return error.strerror if own else str(error)


def _exit(error, text):
    """Ends the process with an error line, after the traceback if `DEBUG` asks for one."""
    if os.environ.get(DEBUG):
        cause = error
        while cause is not None:
            cause.__suppress_context__ = False  # "from None" would hide the original error
            cause = cause.__cause__ or cause.__context__
        traceback.print_exception(error)
    sys.exit(f"error: {text}")
