"""Cases of which only some classes are annotated: told in the plan, and no measure of how frequent the background is."""

from collections.abc import Callable

import pytest

from autounet.fingerprint import Fingerprint
from autounet.planners.annotation import annotation_decision
from autounet.planners.loss import plan_loss
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

Make = Callable[..., Fingerprint]


def with_voxels(fingerprint: Fingerprint, *voxels: dict[str, int], overlapping: bool = False) -> Fingerprint:
    """The fingerprint with these volumes in its cases, in turn."""
    cases = [case.model_copy(update={"class_voxels": voxels[number % len(voxels)]}) for number, case in enumerate(fingerprint.cases)]
    labels = fingerprint.labels.model_copy(update={"overlapping": overlapping})
    return fingerprint.model_copy(update={"cases": tuple(cases), "labels": labels})


@pytest.mark.parametrize("voxels", [{}, {"c1": 5, "c2": 0}])
def test_nothing_is_said_where_all_is_annotated_or_nobody_counted(make_fingerprint: Make, voxels: dict[str, int]) -> None:
    assert annotation_decision(with_voxels(make_fingerprint(), voxels)) is None


def test_the_plan_says_how_many_cases_are_partial(make_fingerprint: Make) -> None:
    fingerprint = with_voxels(make_fingerprint(cases=20), {"c1": 5, "c2": 5}, {"c1": 5}, {"c1": 5}, {"c2": 0})
    plan = make_plan(fingerprint, PRESETS["nnunet"], file_ending=".nii.gz")
    (decision,) = [entry for entry in plan.decisions if entry.name == "annotation"]
    assert decision.value == "15 of 20 cases in part"
    # c2 is missing in the second and third of every four, c1 in the fourth.
    assert "by dataset.json c2 in 10, c1 in 15;" in decision.reason
    assert "background may be that class" in decision.reason
    # Nothing else is decided otherwise.
    complete = make_plan(make_fingerprint(cases=20), PRESETS["nnunet"], file_ending=".nii.gz")
    assert plan.recipe("3d_fullres") == complete.recipe("3d_fullres")
    assert plan.training_recipe() == complete.training_recipe()


def test_regions_have_no_background(make_fingerprint: Make) -> None:
    decision = annotation_decision(with_voxels(make_fingerprint(), {"c1": 5}, {"c1": 5, "c2": 5}, overlapping=True))
    assert decision is not None
    assert "only a case's annotated regions" in decision.reason


def test_many_classes_are_cut_short(make_fingerprint: Make) -> None:
    decision = annotation_decision(with_voxels(make_fingerprint(classes=9), {"c9": 5}))
    assert decision is not None
    assert "c6 in 0 and 2 more not in all;" in decision.reason


def test_class_weights_are_of_the_cases_in_which_all_is_annotated(make_fingerprint: Make) -> None:
    preset = PRESETS["unet2015"]
    complete = {"c1": 64 * 64 * 16, "c2": 64 * 64 * 8}
    expected = plan_loss(with_voxels(make_fingerprint(), complete), preset)[0].class_weights
    # 1/3 even share over 40/64, 16/64 and 8/64
    assert expected == pytest.approx((64 / 120, 64 / 48, 64 / 24), rel=1e-3)
    mixed = with_voxels(make_fingerprint(), complete, {"c1": 64 * 64 * 60})
    assert plan_loss(mixed, preset)[0].class_weights == expected
    assert plan_loss(with_voxels(make_fingerprint(), {"c1": 5}, {"c2": 5}), preset)[0].class_weights == ()
