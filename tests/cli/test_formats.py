"""``predict --format``, ``--per-class`` and ``--colours``: what comes out in which form, and what is refused before the work begins."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK

from autounet.images import read_labels, read_size
from autounet.images.structures import structures_on
from tests.autounet.images.dicom_writing import save_all, series

Autounet = Callable[..., Any]
Refused = Callable[..., Any]

PREDICT = ("--device", "cpu", "--workers", "0", "--no-mirror")


@pytest.fixture(scope="session")
def dicom(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of the volumes as a CT series; to the model it is the same numbers."""
    pytest.importorskip("highdicom")
    nifti = nib.load(sorted((trained.volumes / "imagesTr").iterdir())[0])
    volume = np.asarray(nifti.dataobj).T.astype(np.int16)
    slices = series(volume, orientation=(1, 0, 0, 0, 1, 0), spacing_zyx=(2.5, 1.1, 0.9), FrameOfReferenceUID="1.2.3", StudyDate="20240131")
    return save_all(slices, tmp_path_factory.mktemp("study") / "case_a")


@pytest.fixture(scope="session")
def predicted(trained: Any, autounet: Autounet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, npt.NDArray[Any]]:
    """A NIfTI image of the volumes, and the label map that the model gives it without any option."""
    image = sorted((trained.volumes / "imagesTr").iterdir())[0]
    output = tmp_path_factory.mktemp("plain") / "plain.nii.gz"
    ended = autounet("predict", "-i", image, "-o", output, "-d", "11", "--runs", trained.runs, *PREDICT)
    assert ended.code == 0, ended
    labels = read_labels(output)[0]
    assert labels.any()
    return image, labels


@pytest.mark.parametrize("name", ["nii.gz", "nrrd", "mha", "tif"])
def test_the_same_label_map_in_every_format(
    trained: Any, autounet: Autounet, predicted: tuple[Path, npt.NDArray[Any]], tmp_path: Path, name: str
) -> None:
    image, labels = predicted
    ended = autounet("predict", "-i", image, "-o", tmp_path, "--format", name, "-d", "11", "--runs", trained.runs, *PREDICT)
    assert ended.code == 0, ended
    values, grid = read_labels(tmp_path / f"box_00.{name}")
    assert np.array_equal(values, labels)
    assert ("TIF keeps no origin and direction" in ended.text) == (name == "tif")
    if name != "tif":
        assert grid.differences(read_size(image)[1]) == []


def test_an_nrrd_file_is_a_segmentation_for_slicer(
    trained: Any, autounet: Autounet, predicted: tuple[Path, npt.NDArray[Any]], tmp_path: Path
) -> None:
    autounet("predict", "-i", predicted[0], "-o", tmp_path / "a.nrrd", "-d", "11", "--runs", trained.runs, *PREDICT)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nrrd"))
    assert [image.GetMetaData(f"Segment{place}_Name") for place in (0, 1)] == ["box", "core"]
    assert [image.GetMetaData(f"Segment{place}_LabelValue") for place in (0, 1)] == ["1", "3"]
    assert image.GetMetaData("Segment0_Extent") == "0 27 0 23 0 19"
    assert image.GetMetaData("Segment0_Color") == "0.000000 0.447059 0.698039"  # #0072B2


def test_dicom_in_dicom_segmentation_out(
    trained: Any, autounet: Autounet, predicted: tuple[Path, npt.NDArray[Any]], dicom: Path, tmp_path: Path
) -> None:
    ended = autounet("predict", "-i", dicom, "-o", tmp_path / "x.seg.dcm", "-d", "11", "--runs", trained.runs, *PREDICT)
    assert ended.code == 0, ended
    values, grid = read_labels(tmp_path / "x.seg.dcm")
    assert np.array_equal(values, predicted[1])  # 1 and 3, though segments are numbered 1 and 2
    assert grid.differences(read_size(dicom)[1]) == []
    first = (tmp_path / "x.seg.dcm").read_bytes()
    autounet("predict", "-i", dicom, "-o", tmp_path / "x.seg.dcm", "-d", "11", "--runs", trained.runs, "--overwrite", *PREDICT)
    assert (tmp_path / "x.seg.dcm").read_bytes() == first


def test_contours_and_their_score(
    trained: Any, autounet: Autounet, predicted: tuple[Path, npt.NDArray[Any]], dicom: Path, tmp_path: Path
) -> None:
    """An RTSTRUCT comes back to the label map on its image, and is scored against NIfTI of the same voxels."""
    output = tmp_path / "out" / "x.rtstruct.dcm"
    ended = autounet("predict", "-i", dicom, "-o", output, "-d", "11", "--runs", trained.runs, *PREDICT)
    assert ended.code == 0, ended
    assert np.array_equal(structures_on(dicom, output, {"box": 1, "core": 3})[0], predicted[1])
    plain = autounet("predict", "-i", dicom, "-o", tmp_path / "truth" / "x.nii.gz", "-d", "11", "--runs", trained.runs, *PREDICT)
    assert plain.code == 0, plain
    scored = autounet("evaluate", "-p", output.parent, "-g", tmp_path / "truth", "-d", trained.volumes)
    assert scored.code == 0, scored
    assert "mean 1.0000 1.0000" in scored.text or "mean 1.000 1.000" in scored.text, scored.text


def test_what_a_format_cannot_hold_is_refused_before_predicting(
    trained: Any, refused: Refused, predicted: tuple[Path, npt.NDArray[Any]], dicom: Path, tmp_path: Path
) -> None:
    """A step of prediction would write progress; none is there, and no model is loaded."""
    image, out = predicted[0], tmp_path / "out"
    model = ("-d", "11", "--runs", trained.runs, *PREDICT)
    refused(1, ["volume of 20 slices, and PNG holds one", "--format nii.gz"], "predict", "-i", image, "-o", out, "--format", "png", *model)
    refused(1, ["volume of 20 slices"], "predict", "-i", image, "-o", tmp_path / "x.png", *model)
    words = ["is no DICOM", "predict from the DICOM series"]
    refused(1, words, "predict", "-i", image, "-o", out, "--format", "dicom-seg", *model)
    refused(1, words, "predict", "-i", image, "-o", out, "--format", "rtstruct", *model)
    refused(2, ["--format gif", "dicom-seg"], "predict", "-i", image, "-o", out, "--format", "gif", *model)
    refused(2, ["another format than --format"], "predict", "-i", image, "-o", tmp_path / "x.nrrd", "--format", "mha", *model)
    refused(2, ["x.seg.dcm", "x.rtstruct.dcm"], "predict", "-i", dicom, "-o", tmp_path / "x.dcm", *model)
    refused(2, ["leave out --per-class"], "predict", "-i", dicom, "-o", tmp_path / "x.seg.dcm", "--per-class", *model)
    assert not out.exists()
    assert list(tmp_path.glob("x.*")) == []


def test_a_file_per_structure(trained: Any, autounet: Autounet, predicted: tuple[Path, npt.NDArray[Any]], tmp_path: Path) -> None:
    image, labels = predicted
    model = ("-d", "11", "--runs", trained.runs, *PREDICT)
    assert autounet("predict", "-i", image, "-o", tmp_path / "a.nii.gz", *model).code == 0
    told = autounet("predict", "-i", image, "-o", tmp_path / "a.nii.gz", "--per-class", *model)
    assert "without a file per structure" in told.text
    assert autounet("predict", "-i", image, "-o", tmp_path / "a.nii.gz", "--per-class", "--overwrite", *model).code == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["box.nii.gz", "core.nii.gz"]
    for name, value in (("box", 1), ("core", 3)):
        found = nib.load(tmp_path / "a" / f"{name}.nii.gz")
        assert np.array_equal(np.asarray(found.dataobj).T, labels == value)
        assert np.allclose(found.affine, nib.load(image).affine)


def test_names_and_colours(trained: Any, autounet: Autounet, predicted: tuple[Path, npt.NDArray[Any]], tmp_path: Path) -> None:
    autounet("predict", "-i", predicted[0], "-o", tmp_path, "--colours", "-d", "11", "--runs", trained.runs, *PREDICT)
    snap = (tmp_path / "labels.itksnap.txt").read_text().splitlines()
    assert snap[2:] == ['0 0 0 0 0 0 0 "Clear Label"', '1 0 114 178 1 1 1 "box"', '3 230 159 0 1 1 1 "core"']
    assert (tmp_path / "labels.slicer.ctbl").read_text().splitlines()[2:] == [
        "0 Background 0 0 0 0",
        "1 box 0 114 178 255",
        "3 core 230 159 0 255",
    ]


def test_planar_images_keep_their_format_or_take_another(trained: Any, autounet: Autounet, tmp_path: Path, kit: SimpleNamespace) -> None:
    image = sorted((trained.cells / "imagesTr").iterdir())[0]
    model = ("-d", "12", "--runs", trained.runs, *PREDICT)
    for name in ("png", "tif", "nii.gz"):
        ended = autounet("predict", "-i", image, "-o", tmp_path / f"a.{name}", *model)
        assert ended.code == 0, ended
        assert "keeps no" not in ended.text  # there was no geometry to lose
    first, *others = (read_labels(tmp_path / f"a.{name}")[0] for name in ("png", "tif", "nii.gz"))
    assert all(np.array_equal(first, other) for other in others)


def test_an_ensemble_of_dicom_is_nifti(
    trained: Any, autounet: Autounet, refused: Refused, predicted: tuple[Path, npt.NDArray[Any]], dicom: Path, tmp_path: Path
) -> None:
    """The files of probabilities do not know their series; a prediction by both configurations would."""
    for name in ("one", "two"):
        output = tmp_path / name / "x.seg.dcm"
        assert autounet("predict", "-i", dicom, "-o", output, "--probabilities", "-d", "11", "--runs", trained.runs, *PREDICT).code == 0
    both = ("ensemble", "-i", tmp_path / "one", "-i", tmp_path / "two", "-o", tmp_path / "mean", "-d", "11", "--runs", trained.runs)
    refused(2, ["an ensemble of files does not know it", "predict -c"], *both, "--format", "dicom-seg")
    assert autounet(*both).code == 0
    values, grid = read_labels(tmp_path / "mean" / "x.nii.gz")
    assert np.array_equal(values, predicted[1])
    assert grid.differences(read_size(dicom)[1]) == []
