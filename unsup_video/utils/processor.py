"""The processor of this machine."""

from pathlib import Path


def fields(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Returns name -> value of the first processor in `cpuinfo`; {} if there is no such file."""
    if not cpuinfo.exists():
        return {}
    first = cpuinfo.read_text(encoding="utf-8").split("\n\n")[0]
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}
