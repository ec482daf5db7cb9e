import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data():
    """Folder of real data sets: $UNSUP_VIDEO_TEST_DATA, or ../shared/data next to the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("UNSUP_VIDEO_TEST_DATA") or default)
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set UNSUP_VIDEO_TEST_DATA)")
    return path
