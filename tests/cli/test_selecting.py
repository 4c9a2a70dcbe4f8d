"""``autounet select``, and what follows from it for ``predict``, ``export`` and ``ensemble``."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from autounet.cli.main import run
from autounet.postprocessing import KeepLargest
from autounet.selection import Selection

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def both(trained: Any, kit: SimpleNamespace, autounet: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which fold 0 of both configurations is trained, 2d better; nothing is selected yet."""
    runs = Path(shutil.copytree(trained.runs, tmp_path_factory.mktemp("both") / "runs"))
    longer = ("--epochs", "3", "--iterations", "8", "--device", "cpu", "--workers", "1", "--augmentation", "none")
    ended = autounet("train", "-d", trained.volumes, "-f", "0", "-c", "2d", *longer, "--runs", runs)
    assert ended.code == 0, ended
    return runs


@pytest.fixture(scope="module")
def selected(both: Path, trained: Any, autounet: Run) -> tuple[Path, Any]:
    """The run folder, and how ``select`` ended."""
    return both / trained.volumes.name, autounet("select", "-d", trained.volumes, "--runs", both, "--device", "cpu", "--workers", "1")


def test_every_configuration_and_ensemble_is_compared(selected: tuple[Path, Any]) -> None:
    folder, ended = selected
    assert ended.code == 0, ended
    found = Selection.load(folder / "selection.json")
    assert sorted(candidate.name for candidate in found.candidates) == ["2d", "2d+3d_fullres", "3d_fullres"]
    assert [each.dice.value for each in found.candidates if each.dice] == sorted(
        (each.dice.value for each in found.candidates if each.dice), reverse=True
    )
    assert found.chosen == found.candidates[0].name
    assert "2d lacks folds 1, 2, 3, 4" in ended.text
    assert f"chosen: {found.chosen}" in ended.out


def test_numbers_are_those_of_the_label_maps(selected: tuple[Path, Any], trained: Any) -> None:
    """Dice counted by hand from the files of every candidate."""
    folder, _ = selected
    found = Selection.load(folder / "selection.json")
    for candidate in found.candidates:
        alone = folder / "models" / candidate.name / "fold_0" / "validation"
        predictions = alone if len(candidate.configurations) == 1 else folder / "ensembles" / candidate.name
        files = sorted(predictions.glob("*.nii.gz"))
        assert len(files) == found.cases
        for name, value in (("box", 1), ("core", 3)):
            dice = []
            for file in files:
                one, two = (
                    np.asarray(nibabel.load(path).dataobj) == value  # type: ignore[attr-defined]
                    for path in (file, trained.volumes / "labelsTr" / file.name)
                )
                dice.append(2 * (one & two).sum() / (one.sum() + two.sum()))
            assert candidate.classes[name] == pytest.approx(np.mean(dice), abs=1e-9)


def test_selecting_again_does_nothing_until_something_changes(
    selected: tuple[Path, Any], both: Path, trained: Any, autounet: Run, tmp_path: Path
) -> None:
    runs = Path(shutil.copytree(both, tmp_path / "runs"))
    command = ("select", "-d", trained.volumes, "--runs", runs, "--device", "cpu", "--workers", "1")
    file = runs / trained.volumes.name / "selection.json"
    before = file.stat().st_mtime_ns
    again = autounet(*command)
    assert again.code == 0
    assert "is up to date" in again.text
    assert file.stat().st_mtime_ns == before
    assert autounet(*command, "--no-ensembles", "--rule", "cheapest").code == 0
    fewer = Selection.load(file)
    assert [len(each.configurations) for each in fewer.candidates] == [1, 1]
    assert fewer.rule == "cheapest"


def test_predict_uses_what_was_selected(both: Path, selected: tuple[Path, Any], trained: Any, autounet: Run, tmp_path: Path) -> None:
    """Configuration and postprocessing; -c takes another one, without it. A bundle does the same as the run folder."""
    runs = Path(shutil.copytree(both, tmp_path / "runs"))
    file = runs / trained.volumes.name / "selection.json"
    found = Selection.load(file)
    changed = found.model_copy(update={"chosen": "2d+3d_fullres", "postprocessing": (KeepLargest(values=(1, 3)),)})
    changed.save(file)
    images = tmp_path / "in"
    images.mkdir()
    shutil.copy(trained.volumes / "imagesTr" / "box_00_0000.nii.gz", images)
    command = ("predict", "-d", "11", "--runs", runs, "-i", images, "--device", "cpu")
    ended = autounet(*command, "-o", tmp_path / "out", "--json", "--uncertainty")
    assert ended.code == 0, ended
    report = json.loads(ended.out)
    assert report["configuration"] == "2d+3d_fullres"
    assert list(report["expected_dice"]) == ["box_00"]
    assert "postprocessing: only the largest component of the whole foreground is kept" in ended.text
    (unsure,) = (tmp_path / "out" / "uncertainty").iterdir()
    percent = np.asarray(nibabel.load(unsure).dataobj)  # type: ignore[attr-defined]
    assert 0 <= percent.min() < percent.max() <= 100
    bundle = tmp_path / "model.zip"
    assert autounet("export", "-d", "11", "--runs", runs, "-o", bundle).code == 0
    assert autounet("predict", "-m", bundle, "-i", images, "-o", tmp_path / "of_bundle", "--device", "cpu").code == 0
    one, two = (np.asarray(nibabel.load(tmp_path / name / "box_00.nii.gz").dataobj) for name in ("out", "of_bundle"))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(one, two)
    alone = autounet(*command, "-o", tmp_path / "alone", "-c", "2d")
    assert "postprocessing" not in alone.text


def test_an_ensemble_of_folders_is_that_of_configurations(both: Path, trained: Any, autounet: Run, tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    shutil.copy(trained.volumes / "imagesTr" / "box_00_0000.nii.gz", images)
    common = ("predict", "-d", "11", "--runs", both, "-i", images, "--device", "cpu", "--no-postprocessing")
    for name in ("2d", "3d_fullres"):
        assert autounet(*common, "-c", name, "-o", tmp_path / name, "--probabilities").code == 0
    assert autounet(*common, "-c", "2d+3d_fullres", "-o", tmp_path / "both").code == 0
    ended = autounet("ensemble", "-i", tmp_path / "2d", "-i", tmp_path / "3d_fullres", "-o", tmp_path / "out", "-d", "11", "--runs", both)
    assert ended.code == 0, ended
    one, two = (np.asarray(nibabel.load(tmp_path / name / "box_00.nii.gz").dataobj) for name in ("out", "both"))  # type: ignore[attr-defined]
    assert (one != two).mean() < 1e-3  # files of probabilities hold half precision


def test_ensembles_that_cannot_be(both: Path, tmp_path: Path, refused: Run) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    common = ("-o", tmp_path / "out", "-d", "11", "--runs", both)
    refused(2, ["two folders or more"], "ensemble", "-i", tmp_path / "a", *common)
    refused(2, ["no probabilities in it", "--probabilities"], "ensemble", "-i", tmp_path / "a", "-i", tmp_path / "b", *common)
    refused(2, ["no such folder"], "ensemble", "-i", tmp_path / "c", "-i", tmp_path / "a", *common)


def test_nothing_to_select_from(trained: Any, runs_copy: Path, tmp_path: Path, refused: Run) -> None:
    refused(2, ["nothing is planned or trained"], "select", "-d", trained.volumes, "--runs", tmp_path / "none")
    refused(2, ["--rule fastest", "best or cheapest"], "select", "-d", trained.volumes, "--runs", runs_copy, "--rule", "fastest")
    (runs_copy / trained.volumes.name / "models" / "3d_fullres" / "fold_0" / "scores.json").unlink()
    refused(2, ["no fold is trained and scored", "autounet train"], "select", "-d", trained.volumes, "--runs", runs_copy)


@pytest.mark.parametrize("harm", ["scores", "selection", "prediction", "folds", "plan"])
def test_damaged_files_are_named(harm: str, selected: Any, both: Path, trained: Any, tmp_path: Path, refused: Run) -> None:
    runs = Path(shutil.copytree(both, tmp_path / "runs"))
    folder = runs / trained.volumes.name
    fold = folder / "models" / "2d" / "fold_0"
    command: tuple[object, ...] = ("select", "-d", trained.volumes, "--runs", runs, "--device", "cpu", "--overwrite")
    if harm == "scores":
        (fold / "scores.json").write_text("{")
        words = ["scores.json", "not valid JSON"]
    elif harm == "selection":
        (folder / "selection.json").write_text("{}")
        images = tmp_path / "in"
        images.mkdir()
        shutil.copy(trained.volumes / "imagesTr" / "box_00_0000.nii.gz", images)
        command = ("predict", "-d", "11", "--runs", runs, "-i", images, "-o", tmp_path / "out")
        words = ["selection.json", "is not a selection"]
    elif harm == "folds":
        splits = json.loads((folder / "splits.json").read_text())
        first, second = splits["folds"][:2]
        first["validation"], first["train"] = second["validation"], second["train"]
        (folder / "splits.json").write_text(json.dumps(splits))
        words = ["scores.json", "of other cases than fold 0 holds out", "train it again"]
    elif harm == "plan":
        plan = json.loads((folder / "plan.json").read_text())
        plan["configurations"]["2d"]["patch_size"] = [32, 32]
        (folder / "plan.json").write_text(json.dumps(plan))
        words = ["trained with another plan"]
    else:
        next((fold / "validation").glob("*.nii.gz")).write_bytes(b"no image")
        words = ["box_", "copy the file again"]
    refused(1, words, *command)


def test_a_class_that_is_never_there(both: Path, trained: Any, tmp_path: Path) -> None:
    """Neither in the truth nor in the predictions: its Dice is undefined, and the others decide."""
    data, runs = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name)), Path(shutil.copytree(both, tmp_path / "runs"))
    for name in ("2d", "3d_fullres"):
        for file in (runs / data.name / "models" / name / "fold_0" / "validation").glob("*.nii.gz"):
            for path in (file, data / "labelsTr" / file.name):
                image = nibabel.load(path)  # type: ignore[attr-defined]
                values = np.asarray(image.dataobj)
                nibabel.save(nibabel.Nifti1Image(np.where(values == 3, 1, values).astype(np.uint8), image.affine), path)  # type: ignore[attr-defined]
    assert run(["select", "-d", str(data), "--runs", str(runs), "--device", "cpu", "--no-ensembles", "-q"]) == 0
    found = Selection.load(runs / data.name / "selection.json")
    assert found.candidate("2d").classes["core"] is None
    assert found.candidate("2d").classes["box"] is not None


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "selecting.md"


def test_the_page_as_written(both: Path, trained: Any, autounet: Run, tmp_path: Path) -> None:
    """Every command of the page but the training, in a folder with a trained dataset of that name."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line)[2:] for block in blocks for line in block.splitlines()]
    shutil.copytree(both, tmp_path / "autounet_runs")
    (tmp_path / "images").mkdir()
    shutil.copy(trained.volumes / "imagesTr" / "box_00_0000.nii.gz", tmp_path / "images")
    for arguments in commands:
        arguments = [{"Task01": str(trained.volumes) if arguments[0] in ("run", "select") else "11"}.get(word, word) for word in arguments]
        more = ["--device", "cpu"] if arguments[0] in ("predict", "select") else []
        if arguments[0] == "run":
            more = [] if "--dry-run" in arguments else ["--dry-run"]
        ended = autounet(*arguments, *more, cwd=tmp_path)
        assert ended.code == 0, (arguments, ended)
    assert (tmp_path / "averaged" / "box_00.nii.gz").exists()
    assert (tmp_path / "model.zip").exists()


def test_corrected_labels_are_noticed(both: Path, trained: Any, tmp_path: Path, autounet: Run, kit: SimpleNamespace) -> None:
    """Candidates, postprocessing and what is told of both are of the same truth."""
    data, runs = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name)), Path(shutil.copytree(both, tmp_path / "runs"))
    command = ("select", "-d", data, "--runs", runs, "--device", "cpu", "--workers", "1", "--no-ensembles")
    assert autounet(*command).code == 0
    file = runs / data.name / "selection.json"
    first = Selection.load(file)
    held_out = next((runs / data.name / "models" / "2d" / "fold_0" / "validation").glob("*.nii.gz")).name
    truth = data / "labelsTr" / held_out
    image = nibabel.load(truth)  # type: ignore[attr-defined]
    values = np.asarray(image.dataobj).copy()
    values[:10] = 0
    nibabel.save(nibabel.Nifti1Image(values, image.affine), truth)  # type: ignore[attr-defined]
    again = autounet(*command)
    assert again.code == 0
    assert "up to date" not in again.text
    second = Selection.load(file)
    chosen = second.candidate(second.chosen).dice
    assert chosen is not None
    assert chosen.value == second.dice_before
    assert second.dice_before != first.dice_before


@pytest.mark.parametrize("harm", ["geometry", "value", "gone"])
def test_label_maps_that_cannot_be_ours(harm: str, both: Path, trained: Any, tmp_path: Path, refused: Run, autounet: Run) -> None:
    runs = Path(shutil.copytree(both, tmp_path / "runs"))
    validation = runs / trained.volumes.name / "models" / "2d" / "fold_0" / "validation"
    file = next(validation.glob("*.nii.gz"))
    image = nibabel.load(file)  # type: ignore[attr-defined]
    values, affine = np.asarray(image.dataobj).copy(), image.affine.copy()
    if harm == "geometry":
        affine[0, 3] += 5
    if harm == "value":
        values[0, 0, 0] = 7
    nibabel.save(nibabel.Nifti1Image(values, affine), file)  # type: ignore[attr-defined]
    if harm == "gone":
        file.unlink()
    words = {"geometry": ["differ in", "origin"], "value": ["label values that the dataset does not name: 7"], "gone": [file.name]}[harm]
    refused(1, [*words, "predicts them anew"], "select", "-d", trained.volumes, "--runs", runs, "--device", "cpu")
    if harm == "gone":
        ended = autounet("train", "-d", trained.volumes, "-f", "0", "-c", "2d", "--runs", runs, "--device", "cpu", "--workers", "1")
        assert "label maps of held-out cases are gone" in ended.text
        assert file.exists()


def test_label_maps_of_another_model_are_predicted_anew(both: Path, trained: Any, tmp_path: Path, autounet: Run) -> None:
    images = tmp_path / "in"
    images.mkdir()
    shutil.copy(trained.volumes / "imagesTr" / "box_00_0000.nii.gz", images)
    command = ("predict", "-d", "11", "--runs", both, "-i", images, "-o", tmp_path / "out", "--device", "cpu", "--no-mirror")
    assert "1 predicted" in autounet(*command, "-c", "2d").text
    first = (tmp_path / "out" / "box_00.nii.gz").read_bytes()
    assert "0 predicted" in autounet(*command, "-c", "2d").text
    other = autounet(*command, "-c", "3d_fullres")
    assert "predicted by another model or in another way, and predicted anew: box_00" in other.text
    assert (tmp_path / "out" / "box_00.nii.gz").read_bytes() != first


def test_a_selection_that_was_tampered_with(both: Path, selected: Any, trained: Any, tmp_path: Path, refused: Run) -> None:
    runs = Path(shutil.copytree(both, tmp_path / "runs"))
    file = runs / trained.volumes.name / "selection.json"
    command = ("predict", "-d", "11", "--runs", runs, "-i", trained.volumes / "imagesTr", "-o", tmp_path / "out", "--device", "cpu")
    content = json.loads(file.read_text())
    for changed, words in (
        ({"chosen": "nope"}, ["is chosen, which is no candidate", "autounet select"]),
        ({"candidates": []}, ["selection.json", "autounet select"]),
        ({"postprocessing": [{"kind": "fill_holes", "values": [300, 1]}]}, ["cannot be carried out", "300"]),
    ):
        file.write_text(json.dumps({**content, **changed}))
        refused(1, words, *command)
    file.write_text(json.dumps(content))
    shutil.rmtree(runs / trained.volumes.name / "models" / content["chosen"].split("+")[0])
    refused(2, ["selection.json chooses", "not trained", "autounet select"], *command)
    refused(2, ["names no configuration"], *command, "-c", "2d+")


def test_a_model_that_finds_nothing_is_not_praised(both: Path, trained: Any, tmp_path: Path, autounet: Run) -> None:
    runs = Path(shutil.copytree(both, tmp_path / "runs"))
    for file in (runs / trained.volumes.name / "models").glob("*/fold_0/validation/*.nii.gz"):
        image = nibabel.load(file)  # type: ignore[attr-defined]
        nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), file)  # type: ignore[attr-defined]
    ended = autounet("select", "-d", trained.volumes, "--runs", runs, "--device", "cpu", "--no-ensembles")
    assert ended.code == 0
    assert "no candidate finds more than next to nothing: train longer" in ended.text


def test_images_of_held_out_cases_that_were_replaced(both: Path, trained: Any, tmp_path: Path, autounet: Run, refused: Run) -> None:
    """What was predicted from another image is not scored against the label map of the new one; the same `train` predicts it."""
    data, runs = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name)), Path(shutil.copytree(both, tmp_path / "runs"))
    fold = runs / data.name / "models" / "2d" / "fold_0"
    held_out = next((fold / "validation").glob("*.nii.gz"))
    case = held_out.name.removesuffix(".nii.gz")
    image = data / "imagesTr" / f"{case}_0000.nii.gz"
    before = nibabel.load(image)  # type: ignore[attr-defined]
    nibabel.save(nibabel.Nifti1Image(np.asarray(before.dataobj)[::-1].copy(), before.affine), image)  # type: ignore[attr-defined]
    command = ("select", "-d", data, "--runs", runs, "--device", "cpu", "--workers", "1", "--no-ensembles")
    refused(1, ["have changed since they were predicted", case, "autounet train -c 2d -f 0` again"], *command)
    old = held_out.read_bytes()
    for name in ("2d", "3d_fullres"):
        ended = autounet("train", "-d", data, "-f", "0", "-c", name, "--runs", runs, "--device", "cpu", "--workers", "1")
        assert ended.code == 0, ended
    assert held_out.read_bytes() != old
    assert autounet(*command).code == 0


def test_label_maps_of_ensembles_are_kept_where_weights_and_image_are_the_same(tmp_path: Path) -> None:
    """One file each, by the case; a record of the weights alone, as older versions wrote, tells nothing of images."""
    from autounet.inference.crossval import _keep_own

    files = {case: tmp_path / f"{case}.nii.gz" for case in ("a", "b c")}

    def left(identity: str, images: dict[str, str]) -> set[str]:
        for path in files.values():
            path.touch()
        _keep_own(identity, images, files, tmp_path / ".weights_0")
        return {case for case, path in files.items() if path.exists()}

    (tmp_path / ".weights_0").write_text("one\n")
    assert left("one", {"a": "1", "b c": "2"}) == {"a", "b c"}
    assert left("one", {"a": "1", "b c": "3"}) == {"a"}
    assert left("one", {"a": "1", "b c": "3"}) == {"a", "b c"}
    assert left("two", {"a": "1", "b c": "3"}) == set()


def test_patients_that_were_named_after_the_training(both: Path, trained: Any, tmp_path: Path, autounet: Run, kit: SimpleNamespace) -> None:
    """The folds stay, as models were trained with them; their scores are of patients that are no strangers."""
    data, runs = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name)), Path(shutil.copytree(both, tmp_path / "runs"))
    kit.edit_json(data / "dataset.json", groups={f"box_{number:02d}": "anna" for number in range(6)})
    ended = autounet("select", "-d", data, "--runs", runs, "--device", "cpu", "--workers", "1", "--no-ensembles")
    assert ended.code == 0, ended
    assert "patient anna is in both halves of folds" in ended.text
    words = "patient anna is in both halves of folds"
    shown = autounet("report", "-d", data, "--runs", runs)
    assert words in shown.text
    assert words in (runs / data.name / "report.html").read_text(encoding="utf-8")
