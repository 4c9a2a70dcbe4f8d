"""What the data decide about the loss: strokes need to be told what is background."""

from collections.abc import Callable

import numpy as np
import pytest

from autounet.fingerprint import Fingerprint
from autounet.labels import LabelSpec, StructureClass
from autounet.planners.extract import annotated_share
from autounet.planners.loss import plan_loss
from autounet.planners.presets import PRESETS

Make = Callable[..., Fingerprint]


def with_shares(fingerprint: Fingerprint, *shares: float | None) -> Fingerprint:
    """The cases in turn with these shares of annotated voxels."""
    cases = [case.model_copy(update={"annotated_share": shares[number % len(shares)]}) for number, case in enumerate(fingerprint.cases)]
    return fingerprint.model_copy(update={"cases": tuple(cases)})


def test_the_share_is_counted() -> None:
    labels = np.array([[[0, 1, 4, 4], [4, 4, 4, 4]]])
    spec = LabelSpec(classes=(StructureClass(name="one", values=(1,)),), ignore_value=4)
    assert annotated_share(labels, spec) == 0.25
    assert annotated_share(labels, spec.model_copy(update={"ignore_value": None})) is None


@pytest.mark.parametrize("preset", ["nnunet", "small"])
def test_strokes(make_fingerprint: Make, preset: str) -> None:
    """The voxels without a label weigh together what those with one do, to two digits; the plan says so."""
    loss, decision = plan_loss(with_shares(make_fingerprint(), 0.0101, 0.0143), PRESETS[preset])
    assert loss.unlabelled == 0.012
    assert "count as background, 0.012 of an annotated one" in decision.value
    assert "only 1.2 % of the voxels are annotated" in decision.reason


@pytest.mark.parametrize("share", [None, 0.06, 1.0])
def test_whole_slices_and_whole_label_maps_are_as_nnunet_takes_them(make_fingerprint: Make, share: float | None) -> None:
    loss, decision = plan_loss(with_shares(make_fingerprint(), share), PRESETS["small"])
    assert loss.unlabelled == 0
    assert "background" not in decision.value
