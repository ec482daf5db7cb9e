"""Commands of several modules in one process: each defines flags such as --config or --out."""

import contextlib

from absl import flags


@contextlib.contextmanager
def apart():
    """The flags that commands define inside are there only inside, and those of others outside."""
    others = _defined()
    for name in others:
        delattr(flags.FLAGS, name)
    try:
        yield
    finally:
        for name in _defined():
            delattr(flags.FLAGS, name)
        for name, flag in others.items():
            flags.FLAGS[name] = flag


def _defined():
    modules = flags.FLAGS.flags_by_module_dict()
    return {
        flag.name: flag
        for name in modules
        for flag in modules[name]
        # absl itself defines config.data.split and the like, where they are given.
        if not name.startswith("absl") or "." in flag.name
    }
