"""Fixtures that all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples for everyone: what fails fails because of a change. `pytest --hypothesis-profile explore` looks for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile("repeatable")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of real data and reference plans beside the repository; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("no folder 'shared' beside the repository")
    return SHARED
