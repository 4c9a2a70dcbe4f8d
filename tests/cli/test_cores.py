"""A command takes the cores it was given, and tells libraries so before they are loaded."""

import os

import pytest

from autounet.cli import cores as module
from autounet.cli.cores import cores, keep_to_cores
from autounet.cli.session import open_session


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 16 cores, of which a container may use 4."""
    monkeypatch.setattr(module, "allowed_cores", lambda: 16)
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    # A value to go back to: what the function sets is taken away again.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.parametrize(("asked", "expected"), [(None, 4), ("2", 2), ("64", 4), ("0", 1), ("two", 4)])
def test_a_job_of_slurm_asks_for_cores(asked: str | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if asked is not None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
    assert cores() == expected
    assert open_session().runtime.workers == expected


def test_libraries_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_to_cores()
    assert os.environ["OMP_NUM_THREADS"] == "4"


def test_unless_the_user_has_told_them_or_they_see_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    keep_to_cores()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(module, "usable_cores", lambda: 16)
    keep_to_cores()
    assert "OMP_NUM_THREADS" not in os.environ
