"""Datasets with faults: each gets one clear message, the right exit code, and nothing half-written."""

import gzip
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

Autounet = Callable[..., Any]
Spoil = Callable[[Path], None]


@pytest.fixture
def volumes(trained: Any, tmp_path: Path) -> Path:
    """A copy of the dataset of volumes that a test may spoil."""
    return Path(shutil.copytree(trained.volumes, tmp_path / "data" / "Dataset011_Boxes"))


@pytest.fixture
def plan(refused: Autounet, tmp_path: Path) -> Autounet:
    """Plans a spoilt dataset; it must fail with these words, and leave nothing but its record."""

    def check(root: Path, words: list[str], code: int = 1) -> Any:
        ended = refused(code, words, "plan", "-d", root, "--runs", tmp_path / "runs")
        left = {path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()}
        assert left <= {"run.log", "manifest.json", ".lock", "fingerprint_cases.npz"}  # what the sound cases told is kept
        return ended

    return check


# dataset.json ---------------------------------------------------------------------------------------------------------

DESCRIPTIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no labels": ({"labels": None}, ["'labels' is missing or malformed", "found nothing", '{"background": 0, "tumour": 1}']),
    "labels is a list": ({"labels": ["box"]}, ["'labels' is missing or malformed", 'found ["box"]']),
    "labels is empty": ({"labels": {}}, ["'labels' is missing or malformed"]),
    "label is a text": ({"labels": {"background": 0, "box": "1"}}, ["label 'box' is malformed", 'found "1"', "a whole number"]),
    "label is a fraction": ({"labels": {"background": 0, "box": 1.5}}, ["label 'box' is malformed", "found 1.5"]),
    "label is true": ({"labels": {"background": 0, "box": True}}, ["label 'box' is malformed", "found true"]),
    "label is null": ({"labels": {"background": 0, "box": None}}, ["label 'box' is malformed"]),
    "label is an object": ({"labels": {"background": 0, "box": {"value": 1}}}, ["label 'box' is malformed"]),
    "label is negative": ({"labels": {"background": 0, "box": -1}}, ["must be a positive integer"]),
    "label is enormous": ({"labels": {"background": 0, "box": 10**30}}, ["label 'box' is malformed"]),
    "region with a text": ({"labels": {"background": 0, "box": [1, "x"]}}, ["label 'box' is malformed"]),
    "region without values": ({"labels": {"background": 0, "box": []}}, ["label 'box' is malformed"]),
    "odd keys": ({"labels": {"--1": "box", "0": "background"}}, ["label '--1' is malformed"]),
    "no background": ({"labels": {"box": 1, "core": 3}}, ["no label has the value 0", "name the background"]),
    "no foreground": ({"labels": {"background": 0}}, ["'labels' has no foreground class"]),
    "value twice": ({"labels": {"background": 0, "box": 1, "core": 1}}, ["two classes share a value"]),
    "name twice": ({"labels": {"0": "background", "1": "box", "3": "box"}}, ["two classes have the same name"]),
    "ignore is a class": ({"labels": {"background": 0, "box": 1, "ignore": 1}}, ["the ignore value is also a class"]),
    "regions without order": ({"labels": {"background": 0, "all": [1, 3]}}, ["regions need 'regions_class_order'", "a list of 1"]),
    "regions painted with what is not there": (
        {"labels": {"background": 0, "all": [1, 3]}, "regions_class_order": [7]},
        ["regions need 'regions_class_order'", "found [7]", "the label values 1, 3"],
    ),
    "no channels": ({"channel_names": None}, ["'channel_names' (or 'modality') is missing", '{"0": "MRI"}']),
    "channels is a list": ({"channel_names": ["MRI"]}, ["'channel_names' (or 'modality')", 'found ["MRI"]']),
    "channel is a number": ({"channel_names": {"0": 5}}, ["'channel_names' (or 'modality')", 'found {"0": 5}']),
    "channel keys are words": ({"channel_names": {"first": "MRI"}}, ["'channel_names' (or 'modality')"]),
    "channel keys are odd digits": ({"channel_names": {"²": "MRI"}}, ["'channel_names' (or 'modality')"]),
    "file_ending is a number": ({"file_ending": 7}, ["'file_ending' is malformed", "found 7"]),
    "file_ending of no file": ({"file_ending": ".png"}, ["no image in imagesTr has the 'file_ending'", "6 × .nii.gz", "expected .png"]),
    "training is a number": ({"training": 5}, ["'training' is malformed", "found 5", '"image"']),
    "training is an object": ({"training": {"a": 1}}, ["'training' is malformed"]),
    "training entry is a text": ({"training": ["./imagesTr/box_00_0000.nii.gz"]}, ["entry 1 of the training cases is malformed"]),
    "training entry without label": ({"training": [{"image": "./imagesTr/box_00_0000.nii.gz"}]}, ["entry 1 of the training cases"]),
    "training entry of numbers": ({"training": [{"image": [1], "label": 2}]}, ["entry 1 of the training cases is malformed"]),
    "training file not there": (
        {"training": [{"image": "./imagesTr/nix.nii.gz", "label": "./labelsTr/nix.nii.gz"}]},
        ["2 problems", "nix", "file not found: imagesTr/nix.nii.gz", "file not found: labelsTr/nix.nii.gz"],
    ),
    "training case twice": (
        {"training": [{"image": "./imagesTr/box_00_0000.nii.gz", "label": "./labelsTr/box_00.nii.gz"}] * 2},
        ["box_00", "is listed twice in dataset.json"],
    ),
    "dataset entry is a number": ({"dataset": {"a": 1}}, ["entry 1 of the training cases is malformed", "found 1"]),
    "dataset case with a folder": (
        {"dataset": {"a/b": {"images": ["imagesTr/box_00_0000.nii.gz"], "label": "labelsTr/box_00.nii.gz"}}},
        ["a/b", "a name that not every file system can have"],
    ),
    "more files than channels": (
        {"dataset": {"a": {"images": ["imagesTr/box_00_0000.nii.gz"] * 2, "label": "labelsTr/box_00.nii.gz"}}},
        ["2 channel files, but 1 channel in dataset.json"],
    ),
    "label file is no image": (
        {"training": [{"image": "./imagesTr/box_00_0000.nii.gz", "label": "./dataset.json"}]},
        ["file type not supported: dataset.json"],
    ),
}


@pytest.mark.parametrize("fault", DESCRIPTIONS)
def test_dataset_json_that_is_wrong(fault: str, volumes: Path, plan: Autounet, kit: SimpleNamespace, tmp_path: Path) -> None:
    changes, words = DESCRIPTIONS[fault]
    kit.edit_json(volumes / "dataset.json", **changes)
    plan(volumes, words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["dataset.json: is not valid JSON", "line 1"]),
        ("", ["dataset.json: is not valid JSON"]),
        ("[1, 2]", ["dataset.json: malformed", "a JSON list", "a JSON object"]),
        ("[" * 100_000, ["dataset.json: is not valid JSON"]),
    ],
    ids=["cut", "empty", "list", "deep"],
)
def test_dataset_json_that_is_no_json(text: str, words: list[str], volumes: Path, plan: Autounet, tmp_path: Path) -> None:
    (volumes / "dataset.json").write_text(text)
    plan(volumes, words)
    assert not (tmp_path / "runs").exists()


def test_dataset_json_in_another_encoding(volumes: Path, plan: Autounet) -> None:
    (volumes / "dataset.json").write_text('{"name": "é"}', encoding="utf-16")
    plan(volumes, ["dataset.json: is not valid JSON"])


def test_no_dataset_json(volumes: Path, plan: Autounet) -> None:
    (volumes / "dataset.json").unlink()
    plan(volumes, [f"{volumes}: no dataset.json in this folder", "docs/reference/dataset-format.md"])


def test_no_such_dataset(trained: Any, refused: Autounet, tmp_path: Path) -> None:
    words = ["no dataset 'Task99'", "found Dataset011_Boxes, Dataset012_Cells", "--data"]
    refused(2, words, "plan", "-d", "Task99", "--data", trained.data, "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["", "²", "a" * 300, "~nobody-of-this-name/x", "nowhere/at/all"])
def test_odd_names_of_datasets(name: str, trained: Any, refused: Autounet) -> None:
    refused(2, [f"no dataset '{name}'"], "plan", "-d", name, "--data", trained.data)


def test_ambiguous_dataset(trained: Any, refused: Autounet) -> None:
    refused(2, ["-d Dataset is ambiguous", "Dataset011_Boxes, Dataset012_Cells"], "plan", "-d", "Dataset", "--data", trained.data)


def test_no_such_data_folder(refused: Autounet, tmp_path: Path) -> None:
    refused(2, ["--data", "no such folder"], "plan", "-d", "4", "--data", tmp_path / "nowhere")


# files ----------------------------------------------------------------------------------------------------------------


def test_image_without_label_and_the_reverse_in_one_table(volumes: Path, plan: Autounet, tmp_path: Path) -> None:
    (volumes / "labelsTr" / "box_01.nii.gz").unlink()
    (volumes / "imagesTr" / "box_04_0000.nii.gz").unlink()
    words = [
        "2 problems",
        "box_01",
        "image without a label map in labelsTr",
        "box_04",
        "label map box_04.nii.gz without an image in imagesTr",
    ]
    plan(volumes, words)
    assert not (tmp_path / "runs").exists()


def test_label_maps_named_like_images(volumes: Path, plan: Autounet) -> None:
    for file in list((volumes / "labelsTr").iterdir()):
        file.rename(file.with_name(file.name.replace(".nii.gz", "_0000.nii.gz")))
    plan(volumes, ["name the label map box_00.nii.gz, without _0000"])


@pytest.mark.parametrize("name", ["imagesTr", "labelsTr"])
def test_no_folder_of_images_or_labels(name: str, volumes: Path, plan: Autounet) -> None:
    shutil.rmtree(volumes / name)
    plan(volumes, [f"no folder {name}", "put images into imagesTr"])
    (volumes / name).mkdir()
    plan(volumes, [f"no images in {name}"])


def test_channel_files_that_do_not_fit(volumes: Path, plan: Autounet, kit: SimpleNamespace) -> None:
    images = volumes / "imagesTr"
    shutil.copy(images / "box_00_0000.nii.gz", images / "box_00_0001.nii.gz")
    plan(volumes, ["box_00", "2 channel files, but 1 channel in dataset.json", "name all channels in dataset.json"])
    kit.edit_json(volumes / "dataset.json", channel_names={"0": "T1", "1": "T2"})
    (images / "box_00_0001.nii.gz").rename(images / "box_00_0002.nii.gz")
    ended = plan(volumes, ["box_00", "channel files _0000, _0002 have gaps", "number them from _0000 on"])
    assert "1 problem" in ended.err  # of the other cases, whose one file might hold both channels, reading them will tell
    shutil.copy(images / "box_00_0000.nii.gz", images / "box_00.nii.gz")
    plan(volumes, ["box_00", "several images of this name"])


def save_label(volumes: Path, case: str, change: Callable[[np.ndarray], np.ndarray], zooms: tuple[float, ...] | None = None) -> None:
    file = volumes / "labelsTr" / f"{case}.nii.gz"
    old = nib.load(file)
    affine = old.affine.copy()
    if zooms is not None:
        affine[:3, :3] *= np.array(zooms) / old.header.get_zooms()
    nib.save(nib.Nifti1Image(change(np.asarray(old.dataobj)), affine), file)


def save_image(volumes: Path, case: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    file = volumes / "imagesTr" / f"{case}_0000.nii.gz"
    old = nib.load(file)
    nib.save(nib.Nifti1Image(change(np.asarray(old.dataobj).astype(np.float32)), old.affine), file)


def with_voxel(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[3, 4, 5] = value
        return array

    return change


def cut(path: Path, part: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])


FAULTS: dict[str, tuple[Spoil, list[str]]] = {
    "shapes differ": (lambda root: save_label(root, "box_02", lambda a: a[:, :-1]), ["box_02", "are on different grids", "24", "23"]),
    "spacings differ": (
        lambda root: save_label(root, "box_02", lambda a: a, (0.9, 1.1, 5.0)),
        ["box_02", "different grids", "spacing", "2.5", "5"],
    ),
    "unknown label value": (
        lambda root: save_label(root, "box_02", with_voxel(2)),
        ["box_02.nii.gz", "label values that dataset.json does not name", "found 2", "expected 0, 1, 3"],
    ),
    "NaN": (lambda root: save_image(root, "box_02", with_voxel(np.nan)), ["box_02_0000.nii.gz", "NaN"]),
    "infinite": (lambda root: save_image(root, "box_02", with_voxel(-np.inf)), ["box_02_0000.nii.gz", "infinite"]),
    "all zero": (lambda root: save_image(root, "box_02", np.zeros_like), ["box_02_0000.nii.gz", "every voxel is zero"]),
    "image cut off": (lambda root: cut(root / "imagesTr" / "box_02_0000.nii.gz"), ["box_02_0000.nii.gz"]),
    "label map cut off": (lambda root: cut(root / "labelsTr" / "box_02.nii.gz"), ["box_02.nii.gz"]),
    "empty file": (lambda root: (root / "imagesTr" / "box_02_0000.nii.gz").write_bytes(b""), ["box_02_0000.nii.gz", "empty"]),
    "text in place of an image": (lambda root: (root / "imagesTr" / "box_02_0000.nii.gz").write_text("box"), ["box_02_0000.nii.gz"]),
    "another format inside": (
        lambda root: (root / "imagesTr" / "box_02_0000.nii.gz").write_bytes(gzip.compress(b"box" * 999)),
        ["box_02_0000.nii.gz"],
    ),
    "label map of fractions": (lambda root: save_label(root, "box_02", lambda a: a.astype(np.float32) / 2), ["box_02.nii.gz", "whole"]),
    "two channels in a file": (
        lambda root: save_image(root, "box_02", lambda a: np.stack([a, a], -1)),
        ["box_02_0000.nii.gz", "wrong number of channels", "expected 1"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_are_wrong(fault: str, volumes: Path, plan: Autounet) -> None:
    spoil, words = FAULTS[fault]
    spoil(volumes)
    ended = plan(volumes, [*words, "1 problem in 1 of 6 cases"])
    assert "what to do" in ended.err


def test_all_problems_of_all_cases_are_in_one_table(volumes: Path, plan: Autounet) -> None:
    save_label(volumes, "box_00", lambda array: array[:, :-1])
    save_image(volumes, "box_01", with_voxel(np.nan))
    save_label(volumes, "box_01", with_voxel(9))
    cut(volumes / "imagesTr" / "box_03_0000.nii.gz")
    ended = plan(volumes, ["4 problems in 3 of 6 cases", "different grids", "NaN", "found 9"])
    rows = [line.split("│")[1].strip() for line in ended.err.splitlines() if line.startswith("│")]
    assert [row for row in rows if row] == ["box_00", "box_01", "box_01", "box_03"]


def test_the_problems_are_in_the_log_too(volumes: Path, plan: Autounet, tmp_path: Path) -> None:
    save_image(volumes, "box_01", with_voxel(np.nan))
    plan(volumes, ["NaN"])
    run = tmp_path / "runs" / "Dataset011_Boxes"
    assert "NaN" in (run / "run.log").read_text(encoding="utf-8")
    assert json.loads((run / "manifest.json").read_text())[-1]["status"] == "failed"


def test_nothing_is_labelled_anywhere(volumes: Path, plan: Autounet) -> None:
    for file in (volumes / "labelsTr").iterdir():
        save_label(volumes, file.name.removesuffix(".nii.gz"), np.zeros_like)
    plan(volumes, ["nothing is labelled in any of 6 cases", "voxels of box, core", "labelsTr"])


def test_planar_faults(trained: Any, plan: Autounet, tmp_path: Path) -> None:
    cells = Path(shutil.copytree(trained.cells, tmp_path / "data" / "Dataset012_Cells"))
    Image.new("RGB", (56, 48), (9, 9, 9)).save(cells / "imagesTr" / "cell_1.png")
    Image.new("L", (55, 48)).save(cells / "labelsTr" / "cell_3.png")
    cut(cells / "imagesTr" / "cell_4.png")
    plan(
        cells,
        [
            "3 problems in 3 of 5 cases",
            "cell_1.png: wrong number of channels",
            "found 3 channels",
            "cell_3",
            "different grids",
            "cell_4.png",
        ],
    )


# few cases ------------------------------------------------------------------------------------------------------------


def test_fewer_than_five_cases(trained: Any, autounet: Autounet, refused: Autounet, kit: SimpleNamespace, tmp_path: Path) -> None:
    few, runs = kit.write_volumes(tmp_path / "data" / "Dataset013_Few", cases=3), tmp_path / "runs"
    words = ["five-fold cross-validation needs at least five training cases", "found 3 cases", "`-f all`"]
    refused(1, words, "train", "-d", few, "-f", "0", *kit.short, "--runs", runs)
    assert not runs.exists()
    assert autounet("plan", "-d", few, "--preset", "small", "--runs", runs).code == 0
    ended = autounet("train", "-d", few, "-f", "all", "-c", "2d", *kit.short, "--runs", runs)
    assert ended.code == 0, ended


# data that are unusual, but fine --------------------------------------------------------------------------------------


def decisions(runs: Path) -> Any:
    """The one plan of a folder of runs, without what it is called and made from."""
    (path,) = runs.glob("*/plan.json")
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in ("dataset", "made_from")}


def stray_files(root: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        for name in ("._box_00_0000.nii.gz", ".DS_Store", "Thumbs.db", "notes.txt"):
            (root / folder / name).write_bytes(b"stray")
        (root / folder / "old").mkdir()


def upper_case(root: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        for file in list((root / folder).iterdir()):
            file.rename(file.with_name(file.name.replace(".nii.gz", ".NII.GZ")))


def byte_order_mark(root: Path) -> None:
    path = root / "dataset.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")


def values_as_keys(root: Path) -> None:
    raw = json.loads((root / "dataset.json").read_text())
    raw["labels"] = {"3": "core", "0": "background", "1": "box"}
    raw["modality"] = raw.pop("channel_names")
    (root / "dataset.json").write_text(json.dumps(raw))


def no_ending(root: Path) -> None:
    raw = json.loads((root / "dataset.json").read_text())
    raw["file_ending"] = "nii.gz"
    (root / "dataset.json").write_text(json.dumps(raw))


@pytest.mark.parametrize("change", [stray_files, byte_order_mark, values_as_keys, no_ending])
def test_unusual_folders_give_the_same_plan(change: Spoil, volumes: Path, trained: Any, autounet: Autounet, tmp_path: Path) -> None:
    change(volumes)
    ended = autounet("plan", "-d", volumes, "--preset", "small", "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    assert decisions(tmp_path / "runs") == decisions_of(trained)


def decisions_of(trained: Any) -> Any:
    plan = json.loads((trained.runs / "Dataset011_Boxes" / "plan.json").read_text())
    return {key: value for key, value in plan.items() if key not in ("dataset", "made_from")}


def test_upper_case_endings_all_the_way(volumes: Path, autounet: Autounet, kit: SimpleNamespace, tmp_path: Path) -> None:
    upper_case(volumes)
    runs, out = tmp_path / "runs", tmp_path / "out"
    ended = autounet("train", "-d", volumes, "-f", "0", "-c", "2d", "--preset", "small", *kit.short, "--runs", runs)
    assert ended.code == 0, ended
    ended = autounet("predict", "-i", volumes / "imagesTr", "-o", out, "--runs", runs)
    assert ended.code == 0, ended
    assert len(list(out.glob("[!.]*"))) == 6
    ended = autounet("evaluate", "-p", out, "-g", volumes / "labelsTr", "--json")
    assert ended.code == 0, ended


def test_paths_with_spaces_and_accents_relative_and_linked(trained: Any, autounet: Autounet, kit: SimpleNamespace, tmp_path: Path) -> None:
    """The dataset is known by the name of the link, from plan to predict, and nothing is written into it."""
    work = tmp_path / "Übung drei"
    (work / "data").mkdir(parents=True)
    (work / "data" / "Dataset077_Größe").symlink_to(trained.cells)
    before = kit.snapshot(trained.data)
    ended = autounet("train", "-d", "77", "-f", "0", "--preset", "small", *kit.short, cwd=work)
    assert ended.code == 0, ended
    assert (work / "autounet_runs" / "Dataset077_Größe" / "plan.json").is_file()
    images = "data/Dataset077_Größe/imagesTr/"
    for number, name in enumerate(("77", "Dataset077", "data/Dataset077_Größe/", "data/../data/Dataset077_Größe", "Dataset077_Größe/")):
        ended = autounet("predict", "-d", name, "-i", images, "-o", f"out {number}/ö", cwd=work)
        assert ended.code == 0, ended
    assert autounet("evaluate", "-p", "out 0/ö", "-g", "data/Dataset077_Größe/labelsTr/", cwd=work).code == 0
    assert autounet("plan", "-d", ".", "--runs", work / "autounet_runs", cwd=work / "data" / "Dataset077_Größe").code == 0
    assert kit.snapshot(trained.data) == before
