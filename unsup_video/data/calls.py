"""Calls of Python functions inside a `tf.data` pipeline.

A pipeline works ahead of its reader. If one of TensorFlow's threads calls Python while the
interpreter shuts down, the call never returns, and the interpreter waits for it as long as an
iterator exists. A pipeline that nobody reads from becomes idle once its buffers are full, so the
end of the program waits for that.
"""

import atexit
import threading
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

_IDLE = 0.2  # seconds without a call after which the pipeline counts as idle
_lock = threading.Lock()
_running = 0
_last = 0.0  # the end of the last call, by time.monotonic


def pure(function: Callable, inputs: Sequence[tf.Tensor], dtypes):
    """Wraps a function without side effects in `tf.numpy_function`; several threads may call it.

    Args:
        function: takes and returns numpy arrays and scalars. inputs: its arguments.
        dtypes: one or several, of the values that it returns.
    """

    def call(*arguments):
        global _running, _last
        with _lock:
            _running += 1
        try:
            return function(*arguments)
        finally:
            with _lock:
                _running, _last = _running - 1, time.monotonic()

    return tf.numpy_function(call, inputs, dtypes, stateful=False)


@atexit.register
def _wait_until_idle():
    while _running or time.monotonic() - _last < _IDLE:
        time.sleep(0.01)
