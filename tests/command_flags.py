"""Commands of several modules in one process: each defines flags such as --config or --out."""

import contextlib
import runpy
import sys
from types import SimpleNamespace

from absl import flags
from absl.testing import flagsaver


@contextlib.contextmanager
def apart():
    """The flags that commands define inside are there only inside, and those of others outside.

    So are the modules of commands: one that was loaded before would define no flags again.
    """
    others, modules = _defined(), _loaded()
    for name in others:
        delattr(flags.FLAGS, name)
    for name in modules:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in _defined():
            delattr(flags.FLAGS, name)
        for name in _loaded():
            del sys.modules[name]
        sys.modules.update(modules)
        for name, flag in others.items():
            flags.FLAGS[name] = flag


@contextlib.contextmanager
def command(name):
    """A namespace of the module of a command, whose flags are there only inside.

    Its `main` is given flags by `flags.FLAGS([NAME, "--flag=value", ..])`; errors are exceptions.
    """
    with apart(), flagsaver.flagsaver():
        yield SimpleNamespace(**runpy.run_module(name))


def _loaded():
    """The modules that may define flags, by name."""
    return {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] in ("data_prep", "eval", "train")
        or name in ("unsup_video.client", "unsup_video.export")
    }


def _defined():
    modules = flags.FLAGS.flags_by_module_dict()
    return {
        flag.name: flag
        for name in modules
        for flag in modules[name]
        # absl itself defines config.data.split and the like, where they are given.
        if not name.startswith("absl") or "." in flag.name
    }
