"""Names runs and studies in tables and on pages."""

from pathlib import Path

from unsup_video.training.trained import name_of


def names(paths: list[Path]) -> list[str]:
    """Names each path by its folder, or by the whole path where two folders have the same name.

    Raises:
        ValueError: a folder is given twice.
    """
    folders = [path.resolve() for path in paths]
    for path, folder in zip(paths, folders, strict=True):
        if folders.count(folder) > 1:
            raise ValueError(f"{path} is given twice; give each folder once")
    short = [name_of(folder) for folder in folders]
    return [
        str(path) if short.count(name) > 1 else name
        for path, name in zip(paths, short, strict=True)
    ]
