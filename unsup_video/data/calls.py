"""Python functions inside of a `tf.data` pipeline, which works ahead of whoever reads from it.

A thread of TensorFlow that wants to call Python while the interpreter shuts down never returns, and
the interpreter waits for it where an iterator still exists. A pipeline that nobody reads from is
idle as soon as its buffers are full, so the end of the program waits for that.
"""

import atexit
import threading
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

_IDLE = 0.2  # seconds without a call
_lock = threading.Lock()
_running = 0
_last = 0.0  # when a call ended, as of time.monotonic


def pure(function: Callable, inputs: Sequence[tf.Tensor], dtypes):
    """`tf.numpy_function` of a function without side effects: several threads may call it at once.

    Args:
        function: of numpy arrays and scalars, gives as many. inputs: what it gets.
        dtypes: of what it gives, one or several.
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
