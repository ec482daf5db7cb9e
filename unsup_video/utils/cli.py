"""Starts a command: absl flags, errors as one line instead of a traceback; and what comes next."""

import os
import re
import shlex
import sys
import traceback

import tensorflow as tf
from absl import app, flags, logging
from ml_collections import ConfigDict

DEBUG = "UNSUP_VIDEO_DEBUG"  # an environment variable, which counts before flags are read


def run(main) -> None:
    """Runs `main(argv)`; an error of flags, values, files or data is `error: ...` and status 1.

    `~` at the beginning of a flag, an argument or a field of a config is the home folder, which no
    shell puts in behind `--flag=`.

    With `DEBUG` set the traceback comes first, with the errors that led to this one.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    logging.set_verbosity(logging.WARNING)  # TensorFlow's notes hide ours
    tf.get_logger().setLevel("WARNING")
    app.run(_one_line_errors(main), flags_parser=_one_line_errors(_parse))


def as_named(flag: flags.FlagHolder) -> ConfigDict:
    """The config that a flag of `config_flags.DEFINE_config_file` names, as its file has it.

    The flag's value has what the command line changes.
    """
    parsed = flags.FLAGS[flag.name]
    return _expanded(parsed.parser.parse(parsed.config_filename))


def pixels(flag: flags.FlagHolder) -> tuple[int, int] | None:
    """(height, width) of a flag HEIGHTxWIDTH; None where it is not given.

    Raises ValueError where it is something else.
    """
    if flag.value is None:
        return None
    size = re.fullmatch(r"(\d+)x(\d+)", flag.value)
    if not size:
        raise ValueError(f"--{flag.name} must be HEIGHTxWIDTH, such as 240x320, got {flag.value!r}")
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
    """A line for a shell: "tensorboard", or a module of Python's, with its arguments, quoted.

    Args:
        note: is added as a comment.
    """
    start = [program] if program == "tensorboard" else ["python", "-m", program]
    line = shlex.join([*start, *map(str, arguments)])
    return f"{line}    # {note}" if note else line


def print_next(*commands: str) -> None:
    """Prints what may be run next, lines of `command`."""
    print("next:", *commands, sep="\n  ")


def _parse(argv):
    try:
        arguments = flags.FLAGS(argv)
    except AttributeError as error:  # how a locked config refuses a field that it does not have
        cause = error.args[0]  # a KeyError, with a hint
        text = cause.args[0] if isinstance(cause, KeyError) else cause
        raise ValueError(f"no such config field: {text}") from None
    for name in flags.FLAGS:
        flag = flags.FLAGS[name]
        if (expanded := _expanded(flag.value)) != flag.value:
            flag.value = expanded
    return _expanded(arguments)


def _expanded(value):
    """A value of a flag with the home folder for `~`; a config is changed in place."""
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
            # An OSError of our own has its whole message in strerror; str() adds "[Errno 28]".
            own = isinstance(error, OSError) and error.strerror and not error.filename
            _exit(error, error.strerror if own else error)
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            # Of training in several processes; how the others hear that one has ended.
            _exit(
                error,
                "another process of this run is gone, and its output says why "
                f"({error.message.splitlines()[0]}). Start all of them again with the same "
                "commands: they go on from the last checkpoint",
            )
        except tf.errors.DataLossError as error:
            _exit(
                error,
                f"a data set is damaged ({error.message}); "
                "python -m data_prep.verify FOLDER names the file",
            )

    return guarded


def _exit(error, text):
    """Ends the process with a line, after the traceback where that is asked for."""
    if os.environ.get(DEBUG):
        cause = error
        while cause is not None:
            cause.__suppress_context__ = False  # "from None" hides what a message stands for
            cause = cause.__cause__ or cause.__context__
        traceback.print_exception(error)
    sys.exit(f"error: {text}")
