"""The configs: each file is one experiment; `base.py` has the defaults that they share."""

import os
from pathlib import Path

from unsup_video.configs import recipes

_FOLDER = Path(__file__).parent
_COMMANDS = ("finetune", "flow_cnn")  # their configs start with these names; others are pretraining


def path(name: str) -> str:
    """Returns the file of the packaged config `name`."""
    return str(_FOLDER / f"{name}.py")


def names(command: str | None = "pretrain") -> list[str]:
    """Lists the packaged experiments of a command of train/; None for those of all commands."""

    def command_of(name):
        return next((c for c in _COMMANDS if name.startswith(c)), "pretrain")

    experiments = {file.stem for file in _FOLDER.glob("*.py")} - {"__init__", "base", "recipes"}
    return sorted(name for name in experiments if command in (None, command_of(name)))


def expand(argv: list[str], default: str, command: str = "pretrain") -> list[str]:
    """Replaces `--config=NAME[:RECIPE]` in a command line by the path of that packaged config.

    In a path (with a slash or .py), `~` is expanded to the home folder. Without --config, `default`
    is added, the NAME of a packaged config.

    Raises:
        SystemExit: the config or the recipe does not exist.
    """

    def resolve(value):
        name, colon, recipe = value.partition(":")
        if "/" in name or name.endswith(".py"):
            return os.path.expanduser(value)
        if name not in names(command):
            raise SystemExit(
                f"error: --config: no experiment {name!r}; there are "
                f"{', '.join(names(command))}; or give the path of a .py file"
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
