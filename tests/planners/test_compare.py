"""Two plans side by side."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autounet.fingerprint import Fingerprint
from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.interop.nnunet_plans import nnunet_plans
from autounet.plan import Overrides, Plan
from autounet.planners.compare import ABSENT, compare_plans, compare_with_nnunet
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

Make = Callable[..., Fingerprint]


def plan(fingerprint: Fingerprint, preset: str = "nnunet", **overrides: Any) -> Plan:
    return make_plan(fingerprint, PRESETS[preset], file_ending=".nii.gz", overrides=Overrides(**overrides))


def test_a_plan_does_not_differ_from_itself(make_fingerprint: Make) -> None:
    assert compare_plans(plan(make_fingerprint()), plan(make_fingerprint())) == ()


def test_what_was_chosen_differs_and_what_follows_from_it(make_fingerprint: Make) -> None:
    old, new = plan(make_fingerprint(shape=(128,) * 3)), plan(make_fingerprint(shape=(128,) * 3), batch_size={"3d_fullres": 5})
    changes = {(change.where, change.name): change for change in compare_plans(old, new)}
    batch = changes["3d_fullres", "batch size"]
    assert (batch.before, batch.after) == ("2", "5")
    assert batch.reason.endswith("(chosen by you)")
    assert ("3d_fullres", "patch size") in changes
    assert not any(where == "2d" for where, _ in changes)


def test_configurations_that_come_and_go(make_fingerprint: Make) -> None:
    small, large = plan(make_fingerprint(shape=(128,) * 3)), plan(make_fingerprint(shape=(512,) * 3))
    come = {change.name: change.before for change in compare_plans(small, large) if change.where == "3d_lowres"}
    gone = {change.name: change.after for change in compare_plans(large, small) if change.where == "3d_lowres"}
    assert "patch size" in come
    assert set(come.values()) == set(gone.values()) == {ABSENT}


def test_presets_and_classes_differ(make_fingerprint: Make) -> None:
    changes = [change.describe() for change in compare_plans(plan(make_fingerprint()), plan(make_fingerprint(classes=1), "small"))]
    assert changes[:2] == ["preset nnunet → small", "labels c1, c2 → c1"]


@pytest.mark.parametrize(("file", "preset"), [("plans_plain", "nnunet"), ("plans_resenc_m", "resenc-m"), ("plans_resenc_l", "resenc-l")])
def test_nnunets_plans_of_the_decathlon_do_not_differ(shared: Path, file: str, preset: str) -> None:
    """Of all six datasets, cascades included; against another preset they do."""
    for folder in sorted((shared / "reference" / "msd").iterdir()):
        texts = ((folder / name).read_text() for name in ("dataset_fingerprint.json", "dataset.json"))
        fingerprint = fingerprint_from_nnunet(*(json.loads(text) for text in texts), folder.name)
        theirs = nnunet_plans(json.loads((folder / f"{file}.json").read_text()), file)
        assert compare_with_nnunet(theirs, plan(fingerprint, preset)) == (), folder.name
        different = compare_with_nnunet(theirs, plan(fingerprint, "small"))
        assert {change.name for change in different} >= {"features", "batch size"}, folder.name
        assert all(change.reason for change in different)
