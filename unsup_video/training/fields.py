"""The fields of a config, and those that configs of earlier versions lack."""

from collections.abc import Iterator

# What runs did that were made before the field existed.
_EARLIER = {
    "model": {"frame_scaling": False, "cell": "lstm"},
    "data": {"split": 0},
    "recipe": {"pixel_blur": 0.0, "conditional_input": "truth"},
}
_EARLIER_DECODERS = {
    "output_reconstruction": "",
    "output_future": "",
}  # of a `model` with an `output`


def completed(config: dict) -> dict:
    """A config, as nested dicts, with the fields that it lacks if an earlier version wrote it.

    Their values stand for what that version did.
    """

    def filled(section, value):
        if not isinstance(value, dict):
            return value
        decoders = _EARLIER_DECODERS if section == "model" and "output" in value else {}
        return {**_EARLIER.get(section, {}), **decoders, **value}

    return {section: filled(section, value) for section, value in config.items()}


def flat(config: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(name, value) of every field of nested dicts; names such as "model.units"."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
