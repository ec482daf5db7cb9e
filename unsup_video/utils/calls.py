"""Calls of Python functions inside a `tf.data` pipeline.

A pipeline works ahead of its reader. If one of TensorFlow's threads calls Python while the
interpreter shuts down, the call never returns, and the interpreter waits for it as long as an
iterator exists. A pipeline that nobody reads from becomes idle once its buffers are full, so the
end of the program waits for that.

TensorFlow raises an error of its own for that of such a function; `cause` tells them apart.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import tensorflow as tf

# The pipeline counts as idle after so many checks, 10 ms apart, that find no call. The time since
# the last call would not do: it also passes while the whole process is suspended.
_CHECKS = 20
_lock = threading.Lock()
_running = 0
_begun = 0  # calls since the start of the process
_errors: deque[Exception] = deque(maxlen=10)  # of the functions, the last ones


def pure(function: Callable, inputs: Sequence[tf.Tensor], dtypes):
    """Wraps a function without side effects in `tf.numpy_function`; several threads may call it.

    Args:
        function: takes and returns numpy arrays and scalars. inputs: its arguments.
        dtypes: one or several, of the values that it returns.
    """

    def call(*arguments):
        global _running, _begun
        with _lock:
            _running, _begun = _running + 1, _begun + 1
        try:
            return function(*arguments)
        except Exception as error:
            _errors.append(error)
            raise
        finally:
            with _lock:
                _running -= 1

    return tf.numpy_function(call, inputs, dtypes, stateful=False)


def cause(error: tf.errors.OpError) -> Exception | None:
    """Returns the error of a function that TensorFlow raised `error` for; None if there is none."""
    raised = [e for e in _errors if str(e) and f"{type(e).__name__}: {e}" in error.message]
    return max(raised, key=lambda e: len(str(e)), default=None)


@atexit.register
def _wait_until_idle():
    checks, begun = 0, 0
    while _begun and checks < _CHECKS:
        time.sleep(0.01)
        checks, begun = (0 if _running or _begun != begun else checks + 1), _begun
