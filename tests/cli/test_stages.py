"""Small decisions between the commands: folds, configurations, what changed, where predictions go."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autounet.cli.folding import parse_folds
from autounet.cli.inputs import find_inputs
from autounet.cli.outputs import name_outputs
from autounet.cli.stages import choose_configuration, plan_changes, some
from autounet.errors import UsageError
from autounet.plan import Plan, PlanRequest
from autounet.planners.presets import PRESETS

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "folds"), [("0", ["0"]), ("0,2,4", ["0", "2", "4"]), (" 1 , 1,3,", ["1", "3"]), ("all", ["all"]), ("4,all", ["4", "all"])]
)
def test_parse_folds(text: str, folds: list[str]) -> None:
    assert parse_folds(text, "01234") == folds


@pytest.mark.parametrize("text", ["", ",", "5", "-1", "0-4", "0 1", "ALL", "1.0", "²"])
def test_parse_folds_refuses(text: str) -> None:
    with pytest.raises(UsageError, match="no such fold"):
        parse_folds(text, "01234")


@pytest.fixture
def plan(trained: Any) -> Plan:
    return Plan.load(trained.runs / "Dataset011_Boxes" / "plan.json")


def test_choose_configuration(plan: Plan) -> None:
    assert choose_configuration(plan, None).name == "3d_fullres"
    assert choose_configuration(plan, "2d").name == "2d"
    planar = plan.model_copy(update={"configurations": {"2d": plan.configurations["2d"]}})
    assert choose_configuration(planar, None).name == "2d"
    with pytest.raises(UsageError, match="-c 3d_fullres: not in the plan: expected 2d"):
        choose_configuration(planar, "3d_fullres")


def test_changes_of_a_plan_in_words(plan: Plan) -> None:
    assert plan_changes(plan, plan.model_copy(update={"made_from": {"fingerprint": "other"}})) == "same decisions, from a newer fingerprint"
    entry = plan.configurations["2d"]
    decisions = tuple(choice.model_copy(update={"value": "99"}) if choice.name == "batch size" else choice for choice in entry.decisions)
    changed = plan.model_copy(
        update={
            "request": PlanRequest(preset=PRESETS["nnunet"]),
            "configurations": {**plan.configurations, "2d": entry.model_copy(update={"decisions": decisions})},
        }
    )
    assert plan_changes(plan, changed) == f"preset small → nnunet; 2d: batch size {entry.batch_size} → 99"
    alone = plan.model_copy(update={"configurations": {"2d": entry}})
    assert "3d_fullres: patch size 20×24×28 → –" in plan_changes(plan, alone)
    assert plan_changes(plan, alone).endswith(" more")


def test_some() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdefg")) == "a, b, c, d, e and 2 more"


@pytest.fixture
def touch(tmp_path: Path) -> Write:
    """Makes empty files in a folder and returns it."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / "in").mkdir(exist_ok=True)
            (tmp_path / "in" / name).touch()
        return tmp_path / "in"

    return make


def names_of(cases: dict[str, tuple[Path, ...]]) -> dict[str, list[str]]:
    return {case: [path.name for path in paths] for case, paths in cases.items()}


def test_inputs_are_grouped_by_case(touch: Write) -> None:
    folder = touch("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "c.nrrd", "d_2024.nii.gz", "._a_0000.nii.gz", "notes.txt")
    assert names_of(find_inputs(folder, 2)) == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b": ["b_0000.nii.gz"],
        "c": ["c.nrrd"],
        "d_2024": ["d_2024.nii.gz"],  # a year, not a channel: there is no d_0000
    }


def test_a_single_file_brings_its_channels_along(touch: Write) -> None:
    folder = touch("a_0000.nii.gz", "a_0001.nii.gz", "ab_0000.nii.gz", "a_note.nii.gz")
    assert names_of(find_inputs(folder / "a_0000.nii.gz", 2)) == {"a": ["a_0000.nii.gz", "a_0001.nii.gz"]}
    assert names_of(find_inputs(folder / "a_0000.nii.gz", 1)) == {"a": ["a_0000.nii.gz"]}
    assert names_of(find_inputs(folder / "a_note.nii.gz", 1)) == {"a_note": ["a_note.nii.gz"]}


def test_two_images_that_would_get_one_label_map(touch: Write) -> None:
    with pytest.raises(UsageError, match=r"two images of the same name: found a\.jpg, a\.png"):
        find_inputs(touch("a.png", "a.jpg"), 1)


def test_outputs_have_the_ending_of_their_image(touch: Write, tmp_path: Path) -> None:
    folder = touch("a_0000.nii.gz", "b.mha", "c.JPG", "d.TIF")
    outputs = name_outputs(folder, find_inputs(folder, 1), tmp_path / "out")
    assert {case: path.name for case, path in outputs.items()} == {"a": "a.nii.gz", "b": "b.mha", "c": "c.png", "d": "d.TIF"}


def test_a_folder_may_be_named_like_a_file(touch: Write, tmp_path: Path) -> None:
    folder = touch("a_0000.nii.gz", "b.mha")
    (tmp_path / "out.nii.gz").mkdir()
    assert name_outputs(folder, find_inputs(folder, 1), tmp_path / "out.nii.gz")["a"] == tmp_path / "out.nii.gz" / "a.nii.gz"


def test_a_label_map_beside_its_image(touch: Write) -> None:
    """One image may get its label map beside it under another name; in place of an image never."""
    folder = touch("a_0000.nii.gz", "b.png")
    one = find_inputs(folder / "a_0000.nii.gz", 1)
    assert name_outputs(folder / "a_0000.nii.gz", one, folder / "a_labels.nii.gz") == {"a": folder / "a_labels.nii.gz"}
    with pytest.raises(UsageError, match="would replace the image"):
        name_outputs(folder / "b.png", find_inputs(folder / "b.png", 1), folder)
    with pytest.raises(UsageError, match="is the folder of the images"):
        name_outputs(folder, find_inputs(folder, 1), folder / ".." / "in")
