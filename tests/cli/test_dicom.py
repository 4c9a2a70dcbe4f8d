"""DICOM in the hands of a user: a dataset of folders and zips is planned and prepared, and a tree of studies predicted, as NIfTI is."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.cli.predicting import find_inputs
from autounet.dataset import channel_problems
from autounet.images import read_channels, read_image, read_labels
from tests.autounet.images.dicom_writing import image, save, save_all, series

Autounet = Callable[..., Any]


def as_dicom(nifti: Path, folder: Path, name: str, **tags: Any) -> Path:
    """The same volume as slices."""
    values, grid = read_image(nifti)
    directions = np.array(grid.direction).reshape(3, 3)
    orientation = [*directions[:, 0].tolist(), *directions[:, 1].tolist()]
    stored = values[0].astype(np.int16)
    return save_all(series(stored, orientation, grid.spacing_mm_zyx, grid.origin_mm_xyz, name=name, **tags), folder)


def packed(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def boxes(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset of boxes, of which the images are folders and zips of DICOM slices."""
    root = tmp_path_factory.mktemp("dicom") / "Dataset021_Slices"
    shutil.copytree(trained.volumes / "labelsTr", root / "labelsTr")
    for number, file in enumerate(sorted((trained.volumes / "imagesTr").iterdir())):
        folder = as_dicom(file, root / "imagesTr" / file.name.removesuffix(".nii.gz"), file.name)
        if number % 2:
            packed(folder, folder.with_suffix(".zip"))
    content = json.loads((trained.volumes / "dataset.json").read_text(encoding="utf-8"))
    (root / "dataset.json").write_text(json.dumps({**content, "file_ending": ".dcm"}))
    return root


def test_a_dataset_of_folders_and_zips_is_the_dataset_of_nifti_files(trained: Any, boxes: Path, autounet: Autounet, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for command in ("plan", "preprocess"):
        ended = autounet(command, "-d", boxes, "--runs", runs, *(["--preset", "small"] if command == "plan" else ["-c", "3d_fullres"]))
        assert ended.code == 0, ended
    ours, theirs = (
        json.loads((folder / "fingerprint.json").read_text(encoding="utf-8"))
        for folder in (runs / boxes.name, trained.runs / trained.volumes.name)
    )
    assert ours["intensities"] == theirs["intensities"]
    assert [case["shape_zyx"] for case in ours["cases"]] == [case["shape_zyx"] for case in theirs["cases"]]
    assert [case["orientation"] for case in ours["cases"]] == [case["orientation"] for case in theirs["cases"]]
    written = "".join(file.read_text(encoding="utf-8", errors="replace") for file in (runs / boxes.name).rglob("*") if file.is_file())
    assert "Secret" not in written
    assert "4711" not in written
    again = autounet("plan", "-d", boxes, "--runs", runs)
    assert "reading it anew" not in again.text
    slice_file = boxes / "imagesTr" / "box_00_0000" / "IM0003"
    before = slice_file.read_bytes()
    slice_file.write_bytes(before + b"\0\0")
    changed = autounet("plan", "-d", boxes, "--runs", runs)
    slice_file.write_bytes(before)
    assert "files of box_00" in changed.text


def test_images_named_in_dataset_json(boxes: Path, autounet: Autounet, refused: Any, tmp_path: Path) -> None:
    """A folder, a zip, a file in a zip or of a folder, wherever it lies."""
    root = tmp_path / "Dataset022_Rows"
    shutil.copytree(boxes / "labelsTr", root / "labelsTr")
    found = ["box_00_0000", "box_01_0000.zip", "box_02_0000/IM0010", "box_03_0000.zip/IM0010", "box_04_0000"]
    rows = [{"image": str(boxes / "imagesTr" / name), "label": f"labelsTr/box_0{number}.nii.gz"} for number, name in enumerate(found)]
    content = json.loads((boxes / "dataset.json").read_text(encoding="utf-8"))
    (root / "dataset.json").write_text(json.dumps({**content, "training": rows}))
    assert autounet("plan", "-d", root, "--preset", "small", "--runs", tmp_path / "runs").code == 0
    rows[4]["image"] = str(boxes / "imagesTr" / "box_09_0000")
    (root / "dataset.json").write_text(json.dumps({**content, "training": rows}))
    refused(1, ["box_04", "file not found", "box_09_0000"], "plan", "-d", root, "--runs", tmp_path / "other")


def test_a_tree_of_studies_is_predicted(trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    """One case for each series, named after its folder, with label maps where those of the NIfTI images are."""
    first, second, third = sorted((trained.volumes / "imagesTr").iterdir())[:3]
    tree, plain = tmp_path / "tree", tmp_path / "plain"
    as_dicom(first, tree / "anna" / "CT", "one")
    as_dicom(second, tree / "bob" / "both", "two", SeriesNumber=4)
    for file in (tree / "bob" / "both").iterdir():
        file.rename(file.with_name(f"a{file.name}"))
    as_dicom(third, tree / "bob" / "both", "three", SeriesNumber=9)
    packed(as_dicom(first, tmp_path / "spare", "one"), tree / "carl.zip")
    save(image(np.zeros((3, 3), np.int16), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"), tree / "anna" / "seg.dcm")
    (tree / "report.pdf").write_bytes(b"%PDF")
    plain.mkdir()
    for name, file in (("anna", first), ("bob_both_4", second), ("bob_both_9", third), ("carl", first)):
        shutil.copy(file, plain / f"{name}.nii.gz")
    model = ("-d", "11", "-f", "0", "--runs", trained.runs, "--device", "cpu", "--format", "nii.gz")
    for images, output in ((tree, "dicom"), (plain, "nifti")):
        ended = autounet("predict", "-i", images, "-o", tmp_path / output, *model)
        assert ended.code == 0, ended
        assert "Secret" not in ended.text
    names = [file.name for file in sorted((tmp_path / "dicom").glob("*.nii.gz"))]
    assert names == ["anna.nii.gz", "bob_both_4.nii.gz", "bob_both_9.nii.gz", "carl.nii.gz"]
    for name in names:
        (ours, our_grid), (theirs, their_grid) = (read_labels(tmp_path / folder / name) for folder in ("dicom", "nifti"))
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(our_grid.affine_xyz(), their_grid.affine_xyz(), atol=1e-4)
    one = autounet("predict", "-i", tree / "bob" / "both" / "IM0010", "-o", tmp_path / "one.nii.gz", *model[:-2])
    assert one.code == 0, one
    np.testing.assert_array_equal(read_labels(tmp_path / "one.nii.gz")[0], read_labels(tmp_path / "dicom" / "bob_both_9.nii.gz")[0])
    inside = autounet("predict", "-i", tree / "carl.zip", "-o", tmp_path / "zip", *model)
    assert inside.code == 0, inside
    assert [file.name for file in (tmp_path / "zip").glob("*.nii.gz")] == ["carl.nii.gz"]


def test_channels_are_folders_with_numbers(tmp_path: Path) -> None:
    """For a model of two channels; beside them a colour image, which has all of its own."""
    for channel in (0, 1):
        save_all(series(np.zeros((3, 4, 4), np.int16), name=f"{channel}"), tmp_path / f"case_000{channel}" / "export" / "SE1")
    save(image(np.zeros((4, 4, 3), np.uint8)), tmp_path / "skin.dcm")
    found = find_inputs(tmp_path, 2)
    assert found == {"case": (tmp_path / "case_0000", tmp_path / "case_0001"), "skin": (tmp_path / "skin.dcm",)}
    assert channel_problems("case", found["case"], 2) == []
    assert read_channels(found["case"], 2)[0].shape == (2, 3, 4, 4)


def test_what_cannot_be_predicted_is_said_and_the_rest_is_done(trained: Any, autounet: Autounet, refused: Any, tmp_path: Path) -> None:
    first = min((trained.volumes / "imagesTr").iterdir())
    tree = tmp_path / "tree"
    as_dicom(first, tree / "good", "good")
    gap = as_dicom(first, tree / "gap", "gap")
    (gap / "IM0073").unlink()
    (tree / "cut.dcm").write_bytes(b"")
    model = ("-d", "11", "-f", "0", "--runs", trained.runs, "--device", "cpu", "--format", "nii.gz")
    words = ["2 of 3 images could not be predicted", "1 slice is missing", "the file is empty"]
    refused(1, words, "predict", "-i", tree, "-o", tmp_path / "out", *model)
    assert [file.name for file in (tmp_path / "out").glob("*.nii.gz")] == ["good.nii.gz"]
    (tmp_path / "nothing").mkdir()
    refused(2, ["no images in this folder", "or DICOM"], "predict", "-i", tmp_path / "nothing", "-o", tmp_path / "none", *model)
