"""Starts a command: absl flags, and errors as one line instead of a traceback."""

import sys

import tensorflow as tf
from absl import app, flags, logging


def run(main) -> None:
    """Runs `main(argv)`; an error of flags, values, files or data is `error: ...` and status 1."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    logging.set_verbosity(logging.WARNING)  # TensorFlow's notes hide ours
    tf.get_logger().setLevel("WARNING")
    app.run(_one_line_errors(main), flags_parser=_one_line_errors(_parse))


def _parse(argv):
    try:
        return flags.FLAGS(argv)
    except AttributeError as error:  # how a locked config refuses a field that it does not have
        cause = error.args[0]  # a KeyError, with a hint
        text = cause.args[0] if isinstance(cause, KeyError) else cause
        raise ValueError(f"no such config field: {text}") from None


def _one_line_errors(function):
    def guarded(argv):
        try:
            return function(argv)
        except (ValueError, OSError, flags.Error) as error:
            # An OSError of our own has its whole message in strerror; str() adds "[Errno 28]".
            own = isinstance(error, OSError) and error.strerror and not error.filename
            sys.exit(f"error: {error.strerror if own else error}")
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            # Of training in several processes; how the others hear that one has ended.
            sys.exit(f"error: another process of this run is gone, and its output says why "
                     f"({error.message.splitlines()[0]}). Start all of them again with the same "
                     "commands: they go on from the last checkpoint")
        except tf.errors.DataLossError as error:
            sys.exit(f"error: a data set is damaged ({error.message}); "
                     "python -m data_prep.verify FOLDER names the file")

    return guarded
