"""Data, plans and folds that change between two commands: what was made from the old ones is never passed off as new."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import autounet.cli.predicting as predicting_module
from autounet.cli.locks import one_at_a_time
from autounet.inference.run import predict_cases

Autounet = Callable[..., Any]


@pytest.fixture
def data_copy(trained: Any, tmp_path: Path) -> Path:
    """A copy of the datasets, times included, that a test may change."""
    return Path(shutil.copytree(trained.data, tmp_path / "data"))


def test_changed_labels_are_scored_again(trained: Any, data_copy: Path, runs_copy: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
    """Box and core change places in every label map, at the same file size or not: the old table would be wrong."""
    for path in (data_copy / kit.volumes / "labelsTr").glob("*.nii.gz"):
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        nib.save(nib.Nifti1Image(np.choose(values, [0, 3, 2, 1]).astype(np.uint8), image.affine), path)
    again = autounet("train", "-d", "11", "-f", "0", *kit.short, "--data", data_copy, "--runs", runs_copy)
    assert again.code == 0
    assert "changed since they were scored" in again.text
    assert "trained on images or labels that have changed since" in again.text
    fold = runs_copy / kit.volumes / "models" / "3d_fullres" / "fold_0"
    scored = autounet("evaluate", "-p", fold / "validation", "-g", data_copy / kit.volumes / "labelsTr", "-d", data_copy / kit.volumes)
    assert scored.code == 1  # three cases were in training and have no prediction
    repeated = autounet("train", "-d", "11", "-f", "0", *kit.short, "--data", data_copy, "--runs", runs_copy)
    assert "changed since they were scored" not in repeated.text


def test_a_header_changed_in_place_is_noticed(data_copy: Path, runs_copy: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
    """A file of the same size and a later time is another file."""
    where = ("--data", data_copy, "--runs", runs_copy)
    assert "Up to date" in autounet("plan", "-d", "11", *where).out
    path = data_copy / kit.volumes / "imagesTr" / "box_00_0000.nii.gz"
    path.touch()
    again = autounet("plan", "-d", "11", *where)
    assert "the dataset has changed" in again.text
    assert "box_00" in again.text


def test_no_resume_keeps_the_plan_of_trained_models(
    trained: Any, runs_copy: Path, refused: Autounet, autounet: Autounet, kit: SimpleNamespace
) -> None:
    where = ("--data", trained.data, "--runs", runs_copy)
    before = (runs_copy / kit.volumes / "plan.json").read_bytes()
    refused(2, ["would not fit the models", "--overwrite"], "train", "-d", "11", "-f", "1", "--no-resume", "--preset", "nnunet", *where)
    assert (runs_copy / kit.volumes / "plan.json").read_bytes() == before
    assert autounet("train", "-d", "11", "-f", "0", "--no-resume", *kit.short, *where).code == 0  # finished weights stay
    assert "trained already" in autounet("train", "-d", "11", "-f", "0", "--no-resume", *kit.short, *where).text


def test_no_plan_is_replaced_while_a_fold_is_trained_with_it(
    trained: Any, runs_copy: Path, refused: Autounet, autounet: Autounet, kit: SimpleNamespace
) -> None:
    """Whether or not it is to be given up: the training would end with weights of a plan that is gone."""
    where = ("-d", "11", "--data", trained.data, "--runs", runs_copy, "--preset", "nnunet", "--overwrite")
    before = (runs_copy / kit.volumes / "plan.json").read_bytes()
    fold = runs_copy / kit.volumes / "models" / "3d_fullres" / "fold_3"
    fold.mkdir()
    with one_at_a_time(fold / ".lock", lambda holder: None):
        refused(2, ["a new plan while 3d_fullres fold 3 is being trained", "wait for it or stop it"], "plan", *where)
    assert (runs_copy / kit.volumes / "plan.json").read_bytes() == before
    assert autounet("plan", *where).code == 0
    assert (runs_copy / kit.volumes / "plan.before.json").read_bytes() == before


def test_folds_of_other_cases_are_kept_beside_the_new_ones(
    trained: Any, data_copy: Path, runs_copy: Path, autounet: Autounet, kit: SimpleNamespace
) -> None:
    old = (runs_copy / kit.volumes / "splits.json").read_bytes()
    for folder, name in (("imagesTr", "box_00_0000.nii.gz"), ("labelsTr", "box_00.nii.gz")):
        shutil.copy2(data_copy / kit.volumes / folder / name, data_copy / kit.volumes / folder / name.replace("box_00", "box_09"))
    kit.edit_json(data_copy / kit.volumes / "dataset.json", numTraining=7)
    again = autounet("train", "-d", "11", "-f", "1", *kit.short, "--data", data_copy, "--runs", runs_copy)
    assert again.code == 0
    assert "splits.before.json" in again.text
    assert (runs_copy / kit.volumes / "splits.before.json").read_bytes() == old


def test_label_folders_of_a_dataset_are_no_output_folders(trained: Any, data_copy: Path, refused: Autounet, kit: SimpleNamespace) -> None:
    before = kit.snapshot(data_copy)
    folder = data_copy / kit.volumes
    arguments = ("-i", folder / "imagesTr", "-o", folder / "labelsTr", "-d", "11", "--runs", trained.runs, "--overwrite")
    refused(2, ["labelsTr", "folder of the dataset"], "predict", *arguments)
    assert kit.snapshot(data_copy) == before


def test_a_file_name_that_is_no_text_fails_alone(trained: Any, tmp_path: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source = trained.volumes / "imagesTr" / "box_00_0000.nii.gz"
    shutil.copy(source, folder / "good_0000.nii.gz")
    try:
        shutil.copy(source, bytes(folder) + b"/bad\xff_0000.nii.gz")
    except OSError:
        pytest.skip("this file system takes no such names")
    ended = autounet("predict", "-i", folder, "-o", tmp_path / "out", "-d", "11", "--runs", trained.runs, "--no-mirror")
    assert ended.code == 1
    assert "name that not every file system can have" in ended.text
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["good.nii.gz"]


def test_v1_lists_of_training_cases_find_their_channel_files(tmp_path: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
    """nnU-Net v1 listed ``case.nii.gz`` where the files are ``case_0000.nii.gz``, ``case_0001.nii.gz``."""
    root = kit.write_volumes(tmp_path / "data" / kit.volumes)
    for path in sorted((root / "imagesTr").iterdir()):
        shutil.copy(path, path.with_name(path.name.replace("_0000", "_0001")))
    rows = [{"image": f"./imagesTr/box_{n:02d}.nii.gz", "label": f"./labelsTr/box_{n:02d}.nii.gz"} for n in range(6)]
    kit.edit_json(root / "dataset.json", training=rows, channel_names={"0": "T1", "1": "T2"}, numTraining=None)
    planned = autounet("plan", "-d", root, "--runs", tmp_path / "runs", "--preset", "small")
    assert planned.code == 0, planned.err
    assert "T1, T2" in planned.out


def test_each_region_is_painted_with_a_value_of_its_own(tmp_path: Path, refused: Autounet, kit: SimpleNamespace) -> None:
    root = kit.write_volumes(tmp_path / "data" / kit.volumes)
    regions = {"background": 0, "whole": [1, 3], "core": [3]}
    for order in ([3, 1], [3, 3]):
        kit.edit_json(root / "dataset.json", labels=regions, regions_class_order=order)
        refused(1, ["regions_class_order", "core" if order == [3, 1] else "whole"], "plan", "-d", root, "--runs", tmp_path / "runs")


def test_a_planar_image_is_not_cut_across_the_slices_of_a_volume(tmp_path: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
    """The coarse axis of these volumes is y, so a slice of the model is x by z: a planar image has no such slice."""
    root = kit.write_volumes(tmp_path / "data" / kit.volumes)
    for path in root.glob("*Tr/*.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([1.0, 6.0, 1.0, 1.0])), path)
    where = ("--runs", tmp_path / "runs")
    trained = autounet("train", "-d", root, "-f", "0", "-c", "2d", "--preset", "small", *kit.short, *where)
    assert trained.code == 0, trained.err
    Image.fromarray(np.full((24, 28), 120, np.uint8)).save(tmp_path / "slice.png")
    ended = autounet("predict", "-i", tmp_path / "slice.png", "-o", tmp_path / "out.png", "-c", "2d", *where)
    assert ended.code == 1
    assert "planar" in ended.text
    assert not (tmp_path / "out.png").exists()


@pytest.fixture
def predicting(trained: Any, tmp_path: Path, autounet: Autounet) -> SimpleNamespace:
    """A folder with one volume, another one to put in its place, and how to predict the first on one CPU."""
    (tmp_path / "scans").mkdir()
    image, other = (trained.volumes / "imagesTr" / f"box_0{number}_0000.nii.gz" for number in (0, 1))
    shutil.copy(image, tmp_path / "scans" / "p_0000.nii.gz")
    model = ("-d", "11", "--runs", trained.runs, "--device", "cpu", "--no-mirror")

    def predict(source: str, target: str, *options: object) -> Any:
        return autounet("predict", "-i", tmp_path / source, "-o", tmp_path / target, *model, *options)

    return SimpleNamespace(folder=tmp_path, other=other, predict=predict)


def test_images_of_the_same_name_in_another_folder_are_predicted_anew(predicting: SimpleNamespace) -> None:
    """The label map of one patient is not passed off as that of another."""
    (predicting.folder / "more").mkdir()
    shutil.copy(predicting.other, predicting.folder / "more" / "p_0000.nii.gz")
    assert "1 predicted" in predicting.predict("scans", "out").text
    first = (predicting.folder / "out" / "p.nii.gz").read_bytes()
    again = predicting.predict("scans", "out")
    assert "0 predicted; 1 skipped" in again.text
    assert (predicting.folder / "out" / "p.nii.gz").read_bytes() == first
    ended = predicting.predict("more", "out")
    assert "predicted from other images, or from these before they changed, and predicted anew: p" in ended.text
    predicting.predict("more", "alone")
    there = (predicting.folder / "out" / "p.nii.gz").read_bytes()
    assert there == (predicting.folder / "alone" / "p.nii.gz").read_bytes() != first


def test_an_image_replaced_in_place_is_predicted_anew(predicting: SimpleNamespace) -> None:
    predicting.predict("scans", "out")
    shutil.copy(predicting.other, predicting.folder / "scans" / "p_0000.nii.gz")
    assert "from these before they changed, and predicted anew: p" in predicting.predict("scans", "out").text
    assert "0 predicted; 1 skipped" in predicting.predict("scans", "out").text


def test_what_somebody_has_corrected_is_not_replaced_without_being_asked(predicting: SimpleNamespace) -> None:
    """Hours of work by hand may be in a label map, though its image or the model has changed since."""
    predicting.predict("scans", "out")
    path = predicting.folder / "out" / "p.nii.gz"
    whole = nib.load(path)
    nib.save(nib.Nifti1Image(np.ones(whole.shape, np.uint8), whole.affine), path)
    corrected = path.read_bytes()
    shutil.copy(predicting.other, predicting.folder / "scans" / "p_0000.nii.gz")
    ended = predicting.predict("scans", "out")
    assert ended.code == 0
    assert "but changed since, so kept as they are (--overwrite predicts them anew): p" in ended.text
    assert path.read_bytes() == corrected
    assert "1 predicted" in predicting.predict("scans", "out", "--overwrite").text
    assert path.read_bytes() != corrected


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_what_a_stopped_command_has_replaced_is_not_taken_for_a_correction(
    predicting: SimpleNamespace, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the new label map and the record of it."""

    def stopped(*arguments: Any) -> Any:
        predict_cases(*arguments)
        raise KeyboardInterrupt

    predicting.predict("scans", "out")
    shutil.copy(predicting.other, predicting.folder / "scans" / "p_0000.nii.gz")
    with monkeypatch.context() as patch:
        patch.setattr(predicting_module, "predict_cases", stopped)
        assert predicting.predict("scans", "out", *options).code == 130
    again = predicting.predict("scans", "out")
    assert "and predicted anew: p" in again.text
    assert "kept" not in again.text
    assert "1 skipped" in predicting.predict("scans", "out").text
    predicting.predict("scans", "alone")
    contents = [json.loads((predicting.folder / name / ".predicted_by.json").read_text())["contents"] for name in ("out", "alone")]
    assert contents[0] == contents[1] != {}


def test_records_without_images_are_taken_as_they_are(predicting: SimpleNamespace, kit: SimpleNamespace) -> None:
    """As versions before wrote them: whose images those were is not known."""
    predicting.predict("scans", "out")
    kit.edit_json(predicting.folder / "out" / ".predicted_by.json", images=None)
    assert "1 skipped" in predicting.predict("scans", "out").text


def test_one_file_is_known_to_be_of_its_model_and_image(predicting: SimpleNamespace) -> None:
    """``-o one.nii.gz``, as a folder of label maps."""
    image = "scans/p_0000.nii.gz"
    assert "1 predicted" in predicting.predict(image, "one.nii.gz").text
    assert "0 predicted; 1 skipped" in predicting.predict(image, "one.nii.gz").text
    other = predicting.predict(image, "one.nii.gz", "--uncertainty")  # the folds apart, which is another way
    assert "predicted by another model or in another way, and predicted anew: p" in other.text
    shutil.copy(predicting.other, predicting.folder / image)
    assert "from these before they changed, and predicted anew: p" in predicting.predict(image, "one.nii.gz", "--uncertainty").text


def test_what_is_left_beside_a_new_label_map_is_told(predicting: SimpleNamespace) -> None:
    """Masks and maps of uncertainty of the prediction before; a folder that merely has the case's name is not meant."""
    predicting.predict("scans", "out", "--per-class", "--uncertainty")
    shutil.copy(predicting.other, predicting.folder / "scans" / "p_0000.nii.gz")
    ended = predicting.predict("scans", "out")
    assert "maps of uncertainty are of an earlier prediction: p; --uncertainty makes them anew" in ended.text
    assert "files per structure are of an earlier prediction: p; --per-class makes them anew" in ended.text
    shutil.rmtree(predicting.folder / "out" / "uncertainty")
    for mask in (predicting.folder / "out" / "p").iterdir():
        mask.rename(mask.with_name(f"mine_{mask.name}"))
    assert "earlier prediction" not in predicting.predict("scans", "out", "--overwrite").text


def test_the_report_tells_of_held_out_files_that_have_changed(
    data_copy: Path, runs_copy: Path, autounet: Autounet, kit: SimpleNamespace
) -> None:
    where = ("-d", "11", "--data", data_copy, "--runs", runs_copy)
    words = "3d_fullres fold 0: images or labels of held-out cases have changed since they were scored"
    assert words not in autounet("report", *where).text
    held_out = min((runs_copy / kit.volumes / "models" / "3d_fullres" / "fold_0" / "validation").glob("*.nii.gz"))
    (data_copy / kit.volumes / "labelsTr" / held_out.name).touch()
    assert words in autounet("report", *where).text
    assert words in (runs_copy / kit.volumes / "report.html").read_text(encoding="utf-8")
    held = [data_copy / kit.volumes / folder for folder in ("imagesTr", "labelsTr")]
    (held[1] / held_out.name).unlink()
    (held[0] / held_out.name.replace(".nii.gz", "_0000.nii.gz")).unlink()
    assert "was scored on cases that the dataset no longer has" in autounet("report", *where).text
