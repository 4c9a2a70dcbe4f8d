"""Settings of the machine."""

import dataclasses
import os

import pytest

from autounet.runtime import Runtime, quiet, usable_cores


def test_settings_cannot_be_changed_and_are_given_by_name() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Runtime().workers = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        Runtime("cpu")  # type: ignore[misc]


def test_the_default_progress_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Runtime().progress("title", 3) as advance:
        advance()
        advance(2, "note")
    with quiet("title", 0) as advance:
        advance(0)
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_are_those_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    assert usable_cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
