"""Fixtures that all tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Where tests run in several processes (make test), each keeps to one core: threads of several processes would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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
