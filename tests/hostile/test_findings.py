"""Every input that was ever a finding, and a few changed ones of every target: refused in one sentence, or read; nothing else happens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.corpus import CORPUS
from benchmarks.fuzz.targets import TARGETS
from benchmarks.fuzz.watch import Watch, judge

pytestmark = pytest.mark.filterwarnings("ignore")  # libraries warn of what they find odd in a file

FINDINGS = sorted(path for path in CORPUS.rglob("*") if path.is_file())
SLOW = {"run_folder": 4, "command_line": 4, "nnunet_model": 8, "bundle": 8}
"""Targets of which one input takes long, and how many are tried; of the others it is ``MOST``."""
MOST = 20


@pytest.mark.parametrize("path", FINDINGS, ids=[f"{path.parent.name}-{path.name}" for path in FINDINGS])
def test_a_finding_stays_mended(path: Path, judged: Callable[[str, bytes], str | None]) -> None:
    assert judged(path.parent.name, path.read_bytes()) is None


@pytest.mark.parametrize("name", TARGETS)
def test_sound_input_is_read(name: str, prepared: Any, judged: Callable[[str, bytes], str | None]) -> None:
    """The seeds are what mutations begin with: a target that refused them would fuzz nothing."""
    _, _, seeds = prepared(name)
    assert {title: fault for title, data in list(seeds.items())[:3] if (fault := judged(name, data))} == {}


@pytest.mark.parametrize("name", TARGETS)
def test_changed_input_does_nothing_but_fail(name: str, prepared: Any, watch: Watch) -> None:
    """``pytest tests/hostile --hypothesis-profile explore`` tries others."""
    target, folder, seeds = prepared(name)

    @settings(max_examples=SLOW.get(name, MOST), deadline=None, database=None)
    @given(data=st.sampled_from(list(seeds.values())), seed=st.integers(0, 2**32))
    def check(data: bytes, seed: int) -> None:
        changed = target.changed(data, seed)
        assert judge(lambda: target.run(changed, folder), watch, folder, target.may_name, target.most_seconds) is None, changed[:2000]

    check()
