"""The rule of mirroring: from what the fingerprint says to axes and a reason."""

from collections.abc import Callable, Sequence

import pytest

from autounet.fingerprint import Fingerprint, MirroredClasses
from autounet.labels import LabelSpec, StructureClass
from autounet.planners.laterality.pairs import mirror_axes

ORGANS = ("kidney_left", "kidney_right", "spine")


@pytest.fixture
def fingerprint(make_fingerprint: Callable[..., Fingerprint]) -> Callable[..., Fingerprint]:
    """A fingerprint of named classes, with pairs, where ``voxels`` (per case) say what is there."""

    def make(names: Sequence[str], *pairs: MirroredClasses, voxels: bool = True, orientation: str = "SPL", ndim: int = 3) -> Fingerprint:
        made = make_fingerprint(ndim=ndim, cases=3)
        classes = tuple(StructureClass(name=name, values=(value,)) for value, name in enumerate(names, start=1))
        cases = [
            case.model_copy(update={"orientation": orientation, "class_voxels": dict.fromkeys(names, 100) if voxels else {}})
            for case in made.cases
        ]
        return made.model_copy(update={"labels": LabelSpec(classes=classes), "cases": tuple(cases), "mirrored_classes": pairs})

    return make


def pair(first: str, second: str, axis: int = 2, likeness: float = 0.87, cases: int = 3) -> MirroredClasses:
    return MirroredClasses(first=first, second=second, axis_zyx=axis, cases=cases, likeness=likeness, named=True)


def test_an_axis_with_pairs_is_left_out(fingerprint: Callable[..., Fingerprint]) -> None:
    made = fingerprint(ORGANS, pair("kidney_left", "kidney_right"), pair("lung_left", "lung_right", likeness=0.7))
    axes, decision = mirror_axes(made)
    assert axes == (0, 1)
    assert (decision.name, decision.value) == ("mirroring", "z, y")
    assert decision.reason == (
        "kidney_left and kidney_right (and 1 more pair) are mirror images across x, the patient's left-right axis "
        "(likeness 0.87 in 3 cases): mirrored, one would pass for the other"
    )


def test_two_axes_and_none_may_remain(fingerprint: Callable[..., Fingerprint]) -> None:
    axes, decision = mirror_axes(fingerprint(ORGANS, pair("kidney_left", "kidney_right", 0), pair("kidney_left", "kidney_right", 2)))
    assert (axes, decision.value) == ((1,), "y")
    made = fingerprint(ORGANS, *(pair("kidney_left", "kidney_right", axis) for axis in (1, 2)), ndim=2, orientation="")
    axes, decision = mirror_axes(made)
    assert (axes, decision.value) == ((), "none")
    assert "patient" not in decision.reason


@pytest.mark.parametrize(
    ("names", "voxels", "words"),
    [
        (("Anterior", "Posterior"), True, "no two classes are each other's mirror image"),
        (("tumour",), True, "there is one class"),
        (("RV", "LV"), False, "whether two classes are each other's mirror image, this fingerprint does not say"),
        (ORGANS, False, "does not say where they lie: leave out the left-right axis with `--mirror-axes`"),
        (ORGANS, True, "kidney_left and kidney_right are named as left and right, but do not lie or look like mirror images"),
    ],
)
def test_without_pairs_all_axes_stay(fingerprint: Callable[..., Fingerprint], names: tuple[str, ...], voxels: bool, words: str) -> None:
    axes, decision = mirror_axes(fingerprint(names, voxels=voxels))
    assert (axes, decision.value) == ((0, 1, 2), "all axes")
    assert words in decision.reason
    assert mirror_axes(fingerprint(names, voxels=voxels, ndim=2))[0] == (1, 2)


def test_names_of_classes_that_no_case_has_together(fingerprint: Callable[..., Fingerprint]) -> None:
    made = fingerprint(("knee_left", "knee_right"))
    cases = [
        case.model_copy(update={"class_voxels": {"knee_left": 100 * (number % 2), "knee_right": 100 * (1 - number % 2)}})
        for number, case in enumerate(made.cases)
    ]
    _, decision = mirror_axes(made.model_copy(update={"cases": tuple(cases)}))
    assert "no case has both" in decision.reason
