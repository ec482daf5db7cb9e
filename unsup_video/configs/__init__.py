"""The configs: each file is one experiment; `base.py` has the defaults that they share."""

import functools
import importlib
import os
from pathlib import Path

from unsup_video.configs import recipes

NO_INIT = "none"  # `config.model.init` of a run that starts from the recipe's initial weights
_FOLDER = Path(__file__).parent
# Earlier names, which `--config` and the runs of earlier versions have.
ALIASES = {
    "moving_mnist_2layer": "table2_composite",
    "moving_mnist_2layer_conditional_future": "table2_composite_conditional_future",
    "patches": "table2_patches_composite",
    "patches_conditional_future": "table2_patches_composite_conditional_future",
    "percepts": "table3_composite",
}


def path(name: str) -> str:
    """Returns the file of the packaged config `name`."""
    return str(_FOLDER / f"{name}.py")


def names(task: str | None = "pretraining") -> list[str]:
    """The packaged experiments of a task, see `fields.COMMANDS`; None for those of all."""
    return [name for name, its_task in sorted(_tasks().items()) if task in (None, its_task)]


@functools.cache
def _tasks():
    """{name: task} of the packaged experiments."""
    experiments = {file.stem for file in _FOLDER.glob("*.py")} - {"__init__", "base", "recipes"}
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in experiments}
    return {name: module.get_config().task for name, module in modules.items()}


def expand(argv: list[str], default: str, task: str = "pretraining") -> list[str]:
    """Turns `--config=NAME[:RECIPE]` in a command line into the path of that packaged config.

    In a path (with a slash or .py), `~` is expanded to the home folder. Without --config, `default`
    is added, the NAME of a packaged config.

    Raises:
        SystemExit: the config or the recipe does not exist.
    """

    def resolve(value):
        name, colon, recipe = value.partition(":")
        if "/" in name or name.endswith(".py"):
            return os.path.expanduser(value)
        name = ALIASES.get(name, name)
        if name not in names(task):
            its_task = _tasks().get(name)
            raise SystemExit(
                f"error: --config: no experiment {name!r}"
                f"{f' of {task}, it is one of {its_task}' if its_task else ''}; there are "
                f"{', '.join(names(task))}; or give the path of a .py file"
            )
        if recipe and recipe not in recipes.RECIPES:
            raise SystemExit(
                f"error: --config: no recipe {recipe!r}; there are {', '.join(recipes.RECIPES)}"
            )
        return path(name) + colon + recipe

    program, *arguments = argv
    if not any(a.lstrip("-").partition("=")[0] == "config" for a in arguments):
        arguments = [f"--config={default}", *arguments]
    expanded = [program]
    for argument in arguments:
        if argument.startswith(("--config=", "-config=")):
            flag, _, value = argument.partition("=")
            argument = f"{flag}={resolve(value)}"
        elif expanded[-1] in ("--config", "-config"):
            argument = resolve(argument)
        expanded.append(argument)
    return expanded
