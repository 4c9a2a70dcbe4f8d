"""How cases lie in their files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from autounet.fingerprint import Fingerprint
from autounet.geometry import Grid
from autounet.planners.orientation import orientation_decision, orientation_of

Make = Callable[[Sequence[str]], Fingerprint]


@pytest.fixture
def make(make_fingerprint: Callable[..., Fingerprint]) -> Make:
    """A fingerprint whose cases have the given orientations."""

    def made(orientations: Sequence[str]) -> Fingerprint:
        base = make_fingerprint(cases=len(orientations))
        cases = [case.model_copy(update={"orientation": letters}) for case, letters in zip(base.cases, orientations, strict=True)]
        return base.model_copy(update={"cases": tuple(cases)})

    return made


def test_files_that_do_not_know_have_none() -> None:
    volume = Grid(shape_zyx=(4, 5, 6), spacing_mm_zyx=(1.0, 1.0, 1.0))
    planar = Grid(ndim=2, shape_zyx=(1, 5, 6), spacing_mm_zyx=(1.0, 1.0, 1.0))
    assert orientation_of(volume, Path("a.nii.gz")) == "SPL"
    assert orientation_of(volume, Path("a.TIF")) == ""
    assert orientation_of(planar, Path("a.nii.gz")) == ""


def test_one_orientation(make: Make) -> None:
    decision = orientation_decision(make(["SAR"] * 4))
    assert decision is not None
    assert (decision.name, decision.value) == ("orientation", "SAR in 4 of 4")
    assert decision.reason.startswith("the axes run z to the head, y to the front, x to the right")


def test_none_is_known(make: Make) -> None:
    assert orientation_decision(make(["", ""])) is None


@pytest.mark.parametrize(
    ("orientations", "value", "words"),
    [
        (
            ["SPL", "SPL", "SPR"],
            "SPL in 2, SPR in 1 of 3",
            "case_0002 (SPR) is not stored as the others (SPL); the axes are used as they are, so the network sees both and "
            "nothing but the anatomy tells it the patient's left from right",
        ),
        (["SPL", "LSP", "SPL"], "SPL in 2, LSP in 1 of 3", "across which axis left and right are mirror images differs from case to case"),
        (["SPL", "SAL", "SPL"], "SPL in 2, SAL in 1 of 3", "must learn the body turned or upside down"),
        (["SPL"] * 6 + ["SPR"] * 5, "SPL in 6, SPR in 5 of 11", "case_0006 (SPR), case_0007 (SPR), case_0008 (SPR) and 2 more cases are"),
        (["SPL", ""], "SPL in 1, unknown in 1 of 2", "the others do not say how they lie"),
    ],
)
def test_mixed(make: Make, orientations: list[str], value: str, words: str) -> None:
    decision = orientation_decision(make(orientations))
    assert decision is not None
    assert decision.value == value
    assert words in decision.reason
