"""Dataset folders in both dialects, every mistake that can be made in them, folds, and finding a dataset by its name."""

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autounet.dataset import read_dataset
from autounet.dataset_json import read_labels_of
from autounet.dataset_search import find_dataset, matching_folders
from autounet.errors import DatasetError, UsageError
from autounet.image_names import group_channels, image_files, split_ending
from autounet.splits import five_folds

JSON_KEY = st.text(max_size=3) | st.sampled_from(["0", "1", "--1"])
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | JSON_KEY | st.sampled_from(["-1", "²", "ignore"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_KEY, inner, max_size=3),
    max_leaves=6,
)

DESCRIPTION = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "numTraining": 2, "file_ending": ".nii.gz"}


def make(root: Path, description: Any, images: Sequence[str] = (), labels: Sequence[str] = ()) -> Path:
    """A dataset folder of empty files: reading a dataset opens no image."""
    for folder, names in (("imagesTr", images), ("labelsTr", labels)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / folder / name).touch()
    text = description if isinstance(description, str) else json.dumps(description)
    (root / "dataset.json").write_text(text, encoding="utf-8")
    return root


def nnunet(root: Path, **change: Any) -> Path:
    """Two cases of one channel in nnU-Net's dialect; ``None`` takes an entry away."""
    description = {key: value for key, value in {**DESCRIPTION, **change}.items() if value is not None}
    return make(root, description, ["a_0000.nii.gz", "b_0000.nii.gz"], ["a.nii.gz", "b.nii.gz"])


def problems_of(root: Path) -> dict[str, str]:
    with pytest.raises(DatasetError) as caught:
        read_dataset(root)
    assert caught.value.problems, caught.value
    assert all(problem.remedy for problem in caught.value.problems)
    return {problem.case: problem.what for problem in caught.value.problems}


class TestReading:
    def test_nnunets_dialect(self, tmp_path: Path) -> None:
        root = make(
            tmp_path / "Dataset007_Two",
            {
                "channel_names": {"1": "PET", "0": "CT"},
                "labels": {"tumour": 5, "background": 0, "organ": 2, "ignore": 9},
                "file_ending": ".nrrd",
            },
            ["b_0000.nrrd", "b_0001.nrrd", "a_0001.nrrd", "a_0000.nrrd", "notes.txt", "._a_0000.nrrd"],
            ["b.nrrd", "a.nrrd"],
        )
        dataset = read_dataset(root)
        assert dataset.name == "Dataset007_Two"
        assert dataset.channels == ("CT", "PET")
        assert [(entry.name, entry.values) for entry in dataset.labels.classes] == [("organ", (2,)), ("tumour", (5,))]
        assert dataset.labels.ignore_value == 9
        assert dataset.file_ending == ".nrrd"
        assert [case.id for case in dataset.cases] == ["a", "b"]
        assert [path.name for path in dataset.cases[0].images] == ["a_0000.nrrd", "a_0001.nrrd"]
        assert dataset.cases[0].label == root / "labelsTr" / "a.nrrd"

    def test_the_decathlons_dialect(self, tmp_path: Path) -> None:
        rows = [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in ("liver_10", "liver_2")]
        root = make(
            tmp_path / "Task03_Liver",
            {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "cancer"}, "training": rows, "test": []},
            ["liver_2.nii.gz", "liver_10.nii.gz", "liver_99.nii.gz"],
            ["liver_2.nii.gz", "liver_10.nii.gz"],
        )
        dataset = read_dataset(root)
        assert dataset.channels == ("CT",)
        assert dataset.labels.names == ("liver", "cancer")
        assert [case.id for case in dataset.cases] == ["liver_10", "liver_2"]  # sorted as text, what is not listed is not used
        assert dataset.cases[0].images == (root / "imagesTr" / "liver_10.nii.gz",)

    def test_nnunets_list_of_cases(self, tmp_path: Path) -> None:
        """Images may lie anywhere, below the folder or not."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "far.nii.gz").touch()
        root = make(
            tmp_path / "Dataset008_Listed",
            {**DESCRIPTION, "dataset": {"case": {"images": [str(elsewhere / "far.nii.gz")], "label": "labelsTr/near.nii.gz"}}},
            labels=["near.nii.gz"],
        )
        (case,) = read_dataset(root).cases
        assert (case.id, case.images, case.label.name) == ("case", (elsewhere / "far.nii.gz",), "near.nii.gz")

    def test_regions(self, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
        dataset = read_dataset(nnunet(tmp_path / "d", labels=labels, regions_class_order=[1, 2, 3]))
        assert dataset.labels.overlapping
        assert dataset.labels.names == ("whole", "core", "enhancing")
        assert dataset.labels.paint_order == (1, 2, 3)

    def test_labels_have_an_ending_of_their_own(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", {**DESCRIPTION, "file_ending": ".jpg"}, ["a.jpg", "b_0000.jpg"], ["a.png", "b.tif"])
        assert [(case.id, case.images[0].name, case.label.name) for case in read_dataset(root).cases] == [
            ("a", "a.jpg", "a.png"),
            ("b", "b_0000.jpg", "b.tif"),
        ]

    def test_one_file_that_holds_all_channels(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", {**DESCRIPTION, "channel_names": {"0": "R", "1": "G", "2": "B"}}, ["a.nii.gz"], ["a.nii.gz"])
        assert len(read_dataset(root).cases[0].images) == 1

    def test_four_digits_at_the_end_of_a_case_name_are_no_channel(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", DESCRIPTION, ["scan_0001.nii.gz", "scan_0002.nii.gz"], ["scan_0001.nii.gz", "scan_0002.nii.gz"])
        assert [case.id for case in read_dataset(root).cases] == ["scan_0001", "scan_0002"]

    def test_numbered_cases_with_channels(self, tmp_path: Path) -> None:
        root = make(
            tmp_path / "d", DESCRIPTION, ["scan_0001_0000.nii.gz", "scan_0000_0000.nii.gz"], ["scan_0001.nii.gz", "scan_0000.nii.gz"]
        )
        assert [case.id for case in read_dataset(root).cases] == ["scan_0000", "scan_0001"]

    def test_byte_order_mark_and_umlauts(self, tmp_path: Path) -> None:
        root = nnunet(tmp_path / "d")
        description = {**DESCRIPTION, "labels": {"background": 0, "Schädel": 1}}
        (root / "dataset.json").write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8-sig")
        assert read_dataset(root).labels.names == ("Schädel",)

    def test_labels_alone(self, tmp_path: Path) -> None:
        assert read_labels_of(make(tmp_path / "d", DESCRIPTION)).names == ("organ",)

    @pytest.mark.parametrize(
        ("folder", "cases", "channels", "classes", "ending"),
        [
            ("Task04_Hippocampus", 260, ("MRI",), ("Anterior", "Posterior"), ".nii.gz"),
            ("Dataset101_EM", 20, ("microscopy",), ("membrane",), ".png"),
            ("Dataset102_Cardiac", 40, ("MRI",), None, ".nii.gz"),
        ],
    )
    def test_real_folders(
        self, shared: Path, folder: str, cases: int, channels: tuple[str, ...], classes: tuple[str, ...] | None, ending: str
    ) -> None:
        dataset = read_dataset(shared / "data" / folder)
        assert (len(dataset.cases), dataset.file_ending, len(dataset.channels)) == (cases, ending, len(channels))
        assert classes is None or dataset.labels.names == classes


TWO_CLASSES = {"background": 0, "tumour": 2, "organ": 1}


class TestAnnotated:
    def test_cases_that_are_not_named_have_all_classes(self, tmp_path: Path) -> None:
        dataset = read_dataset(nnunet(tmp_path / "d", labels=TWO_CLASSES, annotated={"b": ["tumour"]}))
        assert [case.annotated for case in dataset.cases] == [None, ("tumour",)]

    def test_naming_all_classes_is_naming_none(self, tmp_path: Path) -> None:
        dataset = read_dataset(nnunet(tmp_path / "d", labels=TWO_CLASSES, annotated={"a": ["tumour", "organ"], "b": ["organ", "organ"]}))
        assert [case.annotated for case in dataset.cases] == [None, ("organ",)]

    def test_regions(self, tmp_path: Path) -> None:
        labels = {"background": 0, "whole": [1, 2], "core": [2]}
        root = nnunet(tmp_path / "d", labels=labels, regions_class_order=[1, 2], annotated={"a": ["whole"]})
        assert read_dataset(root).cases[0].annotated == ("whole",)

    def test_cases_listed_in_the_decathlons_dialect(self, tmp_path: Path) -> None:
        rows = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in ("a", "b")]
        description = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ", "2": "tumour"}, "training": rows}
        files = ["a.nii.gz", "b.nii.gz"]
        root = make(tmp_path / "d", {**description, "annotated": {"a": ["organ"]}}, files, files)
        assert [case.annotated for case in read_dataset(root).cases] == [("organ",), None]

    @pytest.mark.parametrize(
        ("annotated", "message"),
        [
            (["organ"], "'annotated' is malformed.*found .\"organ\".*expected an object"),
            ({"a": []}, r"'annotated' of case 'a' is malformed: found \[\].*leave out cases in which all are"),
            ({"a": "organ"}, "'annotated' of case 'a' is malformed"),
            ({"a": [1]}, "'annotated' of case 'a' is malformed"),
            ({"a": ["organ", "spleen"]}, r"of case 'a' names what is no class: found \[\"spleen\"\], expected some of organ, tumour"),
            ({"a": ["background"]}, "the background is not among them"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, annotated: Any, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            read_dataset(nnunet(tmp_path / "d", labels=TWO_CLASSES, annotated=annotated))

    def test_a_case_that_is_not_there(self, tmp_path: Path) -> None:
        root = nnunet(tmp_path / "d", labels=TWO_CLASSES, annotated={"a": ["organ"], "c": ["organ"], "d": ["organ", "tumour"]})
        assert problems_of(root) == dict.fromkeys(("c", "d"), "is named under 'annotated' in dataset.json, but there is no such case")

    def test_a_case_with_another_problem_is_there(self, tmp_path: Path) -> None:
        root = nnunet(tmp_path / "d", labels=TWO_CLASSES, annotated={"b": ["organ"]})
        (root / "labelsTr" / "b.nii.gz").unlink()
        assert problems_of(root) == {"b": "image without a label map in labelsTr"}


class TestMalformed:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not valid JSON"),
            ('{"labels": ', "is not valid JSON"),
            ("[" * 100_000, "is not valid JSON"),
            ("[]", "found a JSON list, expected a JSON object"),
            ("null", "found a JSON NoneType"),
            ("3", "found a JSON int"),
        ],
    )
    def test_not_an_object(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            read_dataset(make(tmp_path / "d", text))

    def test_not_text(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", "")
        (root / "dataset.json").write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(DatasetError, match="is not valid JSON"):
            read_dataset(root)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no dataset\.json in this folder"):
            read_dataset(tmp_path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"channel_names": None}, "'channel_names'.*found nothing"),
            ({"channel_names": {}}, "'channel_names'"),
            ({"channel_names": "MRI"}, "'channel_names'"),
            ({"channel_names": ["MRI"]}, "'channel_names'"),
            ({"channel_names": {"zero": "MRI"}}, "'channel_names'"),
            ({"channel_names": {"²": "MRI"}}, "'channel_names'"),
            ({"channel_names": {"0": 5}}, "'channel_names'"),
            ({"labels": None}, "'labels' is missing or malformed.*found nothing"),
            ({"labels": {}}, "'labels' is missing or malformed"),
            ({"labels": ["background"]}, "'labels' is missing or malformed"),
            ({"labels": {"background": 0}}, "no foreground class"),
            ({"labels": {"background": 0, "ignore": 1}}, "no foreground class"),
            ({"labels": {"organ": 1}}, "no label has the value 0"),
            ({"labels": {"background": 0, "organ": 1.5}}, "label 'organ' is malformed.*found 1.5"),
            ({"labels": {"background": 0, "organ": True}}, "label 'organ' is malformed"),
            ({"labels": {"background": 0, "organ": "one"}}, "label 'organ' is malformed"),
            ({"labels": {"background": 0, "organ": None}}, "label 'organ' is malformed"),
            ({"labels": {"background": 0, "organ": []}}, "label 'organ' is malformed"),
            ({"labels": {"background": 0, "organ": 2**40}}, "label 'organ' is malformed"),
            ({"labels": {"background": 0, "organ": -1}}, "positive integer"),
            ({"labels": {"background": 0, "organ": 1, "ignore": -1}}, "ignore value must be a positive integer"),
            ({"labels": {"background": 0, "organ": 1, "ignore": 1}}, "ignore value is also a class"),
            ({"labels": {"background": 0, "organ": 1, "ignore": 2, "Ignore": 3}}, "two labels are named 'ignore'"),
            ({"labels": {"background": 0, "nothing": 0, "organ": 1}}, "two labels have the value 0"),
            ({"labels": {"background": 0, "organ": 1, "tumour": 1}}, "two classes share a value"),
            ({"labels": {"0": "background", "1": "organ", "2": "organ"}}, "two classes have the same name"),
            ({"labels": {"background": 0, "region": [0, 1]}, "regions_class_order": [1]}, "positive integer"),
            ({"labels": {"background": 0, "region": [1, 2]}}, "regions need 'regions_class_order'.*found nothing"),
            ({"labels": {"background": 0, "region": [1, 2]}, "regions_class_order": [1, 2]}, "regions need 'regions_class_order'"),
            ({"labels": {"background": 0, "region": [1, 2]}, "regions_class_order": [7]}, "regions need 'regions_class_order'"),
            ({"labels": {"background": 0, "region": [1, 2]}, "regions_class_order": "1"}, "regions need 'regions_class_order'"),
            ({"file_ending": 5}, "'file_ending' is malformed"),
            ({"file_ending": ".png"}, "no image in imagesTr has the 'file_ending'.*found 2 × .nii.gz, expected .png"),
            ({"training": "all"}, "'training' is malformed"),
            ({"training": [5]}, "entry 1 of the training cases is malformed"),
            ({"training": [{"image": "./imagesTr/a_0000.nii.gz"}]}, "entry 1 of the training cases is malformed"),
            ({"training": [{"image": 5, "label": "x"}]}, "entry 1 of the training cases is malformed"),
            ({"dataset": {"a": "imagesTr/a.nii.gz"}}, "entry 1 of the training cases is malformed"),
        ],
    )
    def test_one_clear_message(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        with pytest.raises(DatasetError, match=message) as caught:
            read_dataset(nnunet(tmp_path / "d", **change))
        assert "dataset.json" in str(caught.value)
        assert caught.value.remedy

    @pytest.mark.parametrize(
        ("missing", "message"), [("imagesTr", "no folder imagesTr"), ("labelsTr", "no folder labelsTr"), ("both", "no folder imagesTr")]
    )
    def test_no_folder(self, tmp_path: Path, missing: str, message: str) -> None:
        root = nnunet(tmp_path / "d")
        for folder in ("imagesTr", "labelsTr") if missing == "both" else (missing,):
            (root / folder).rename(root / f"other_{folder}")
        with pytest.raises(DatasetError, match=message):
            read_dataset(root)

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no images in labelsTr"):
            read_dataset(make(tmp_path / "d", DESCRIPTION, ["a_0000.nii.gz"]))

    def test_every_problem_of_every_case(self, tmp_path: Path) -> None:
        found = problems_of(
            make(
                tmp_path / "d",
                {**DESCRIPTION, "channel_names": {"0": "A", "1": "B"}},
                ["good_0000.nii.gz", "good_0001.nii.gz", "few_0000.nii.gz", "few_0002.nii.gz", "alone_0000.nii.gz", "alone_0001.nii.gz"],
                ["good.nii.gz", "few.nii.gz", "orphan.nii.gz"],
            )
        )
        assert list(found) == ["alone", "few", "orphan"]
        assert found["alone"] == "image without a label map in labelsTr"
        assert found["few"] == "channel files _0000, _0002 have gaps"
        assert found["orphan"] == "label map orphan.nii.gz without an image in imagesTr"

    def test_too_many_channels(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", DESCRIPTION, ["a_0000.nii.gz", "a_0001.nii.gz"], ["a.nii.gz"])
        assert problems_of(root) == {"a": "2 channel files, but 1 channel in dataset.json"}

    def test_two_label_maps_of_one_case(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", DESCRIPTION, ["a.nii.gz"], ["a.nii.gz", "a.nrrd"])
        assert problems_of(root) == {"a": "two label maps: a.nii.gz and a.nrrd"}

    def test_jpegs_cannot_hold_labels(self, tmp_path: Path) -> None:
        root = make(tmp_path / "d", {**DESCRIPTION, "file_ending": ".jpg"}, ["a.jpg"], ["a.jpg"])
        assert "JPEG" in problems_of(root)["a"]

    def test_listed_files(self, tmp_path: Path) -> None:
        rows = [
            {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"},
            {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"},
            {"image": "imagesTr/gone.nii.gz", "label": "labelsTr/gone.nii.gz"},
            {"image": "imagesTr/text.txt", "label": "labelsTr/text.nii.gz"},
        ]
        root = make(tmp_path / "d", {**DESCRIPTION, "training": rows}, ["a.nii.gz", "text.txt"], ["a.nii.gz", "text.nii.gz"])
        with pytest.raises(DatasetError) as caught:
            read_dataset(root)
        assert [(problem.case, problem.what) for problem in caught.value.problems] == [
            ("a", "is listed twice in dataset.json"),
            ("gone", f"file not found: {Path('imagesTr/gone.nii.gz')}"),
            ("gone", f"file not found: {Path('labelsTr/gone.nii.gz')}"),
            ("text", "file type not supported: text.txt"),
        ]

    @pytest.mark.parametrize("name", ["../escape", "a/b", "a\\b", ".", "..", "line\nbreak"])
    def test_case_names_are_file_names(self, tmp_path: Path, name: str) -> None:
        entry = {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}
        assert problems_of(nnunet(tmp_path / "d", dataset={name: entry}))

    @given(
        key=st.sampled_from(["channel_names", "labels", "training", "dataset", "file_ending", "regions_class_order", "annotated"]),
        value=JSON_VALUE,
    )
    @example(key="labels", value={"--1": "a", "0": "b"})
    @example(key="channel_names", value={"²": "MRI"})
    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_whatever_stands_there_it_is_read_or_one_dataset_error(self, tmp_path: Path, key: str, value: Any) -> None:
        root = nnunet(tmp_path / "d", **{key: value})
        with contextlib.suppress(DatasetError):
            assert read_dataset(root).labels.classes


class TestFolds:
    def test_equal_nnunets_reference(self, shared: Path) -> None:
        """The held-out cases of every fold of Hippocampus, as nnU-Net's published cross-validation lists them."""
        with (shared / "reference" / "hippocampus_nnunet_cv.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        folds = five_folds([case.id for case in read_dataset(shared / "data" / "Task04_Hippocampus").cases])
        for network in {row["network"] for row in rows}:
            for fold in range(5):
                expected = [row["case"] for row in rows if row["network"] == network and row["fold"] == str(fold)]
                assert sorted(expected) == list(folds[fold].validation)
        assert folds[0].validation[:3] == ("hippocampus_017", "hippocampus_019", "hippocampus_033")

    @given(st.sets(st.text("abc123_", min_size=1, max_size=6), min_size=5, max_size=40))
    def test_every_case_is_held_out_once(self, cases: set[str]) -> None:
        folds = five_folds(sorted(cases, reverse=True))  # the order given does not matter
        assert folds == five_folds(sorted(cases))
        assert sorted(case for fold in folds for case in fold.validation) == sorted(cases)
        for fold in folds:
            assert sorted((*fold.train, *fold.validation)) == sorted(cases)
            assert len(cases) // 5 <= len(fold.validation) <= len(cases) // 5 + 1

    @pytest.mark.parametrize("count", [0, 1, 4])
    def test_too_few(self, count: int) -> None:
        with pytest.raises(DatasetError, match=f"at least five training cases: found {count} case"):
            five_folds([str(number) for number in range(count)])


class TestFinding:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> list[Path]:
        """Two folders of datasets, and things in them that are none."""
        for name in ("a/Task04_Hippocampus", "a/Task05_Prostate", "a/Dataset004_Other", "b/Task04_Hippocampus", "b/Dataset040_Forty"):
            make(tmp_path / name, DESCRIPTION)
        (tmp_path / "a" / "Task06_NoJson").mkdir()
        (tmp_path / "a" / "Task07_File").touch()
        return [tmp_path / "a", tmp_path / "b", tmp_path / "missing"]

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("Task04_Hippocampus", "a/Task04_Hippocampus"),  # the first folder wins
            ("Task04", "a/Task04_Hippocampus"),
            ("Task4", "a/Task04_Hippocampus"),
            ("Task04_Hi", "a/Task04_Hippocampus"),
            ("Task05", "a/Task05_Prostate"),
            ("5", "a/Task05_Prostate"),
            ("Dataset004", "a/Dataset004_Other"),
            ("Dataset4", "a/Dataset004_Other"),
            ("40", "b/Dataset040_Forty"),
            ("040", "b/Dataset040_Forty"),
        ],
    )
    def test_by_name_prefix_and_number(self, folders: list[Path], query: str, name: str) -> None:
        assert find_dataset(query, folders) == folders[0].parent / name

    def test_by_path(self, folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folders[1] / "Dataset040_Forty"
        assert find_dataset(str(folder), []) == folder
        assert find_dataset(str(folder / "dataset.json"), []) == folder
        monkeypatch.chdir(folders[1])
        assert find_dataset("Dataset040_Forty", []) == folder
        assert find_dataset(os.path.join(".", "Dataset040_Forty"), []) == folder

    def test_ambiguous(self, folders: list[Path]) -> None:
        with pytest.raises(UsageError, match="-d 4 is ambiguous: found Dataset004_Other, Task04_Hippocampus"):
            find_dataset("4", folders)
        with pytest.raises(UsageError, match="-d Task is ambiguous"):
            find_dataset("Task", folders)

    @pytest.mark.parametrize("query", ["Task99", "99", "Hippocampus", "Task06", "Task07_File", "", "~nobody_of_this_name/x", "x" * 5000])
    def test_not_found_lists_what_is_there(self, folders: list[Path], query: str) -> None:
        with pytest.raises(UsageError, match="no dataset") as caught:
            find_dataset(query, folders)
        assert caught.value.exit_code == 2
        assert "Dataset004_Other, Task04_Hippocampus, Task05_Prostate, Dataset040_Forty" in str(caught.value)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no folder with a dataset\.json"):
            find_dataset("4", [tmp_path])

    def test_a_number_is_not_a_prefix(self) -> None:
        names = ["Task04_A", "Task40_B", "Dataset004_C", "4_D"]
        assert matching_folders("4", names) == ["Task04_A", "Dataset004_C"]
        assert matching_folders("Task4", names) == ["Task04_A"]
        assert matching_folders("4_D", names) == ["4_D"]


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "parts"),
        [
            ("a.nii.gz", ("a", ".nii.gz")),
            ("a.b.nii", ("a.b", ".nii")),
            ("A.NII.GZ", ("A", ".NII.GZ")),
            ("a_0000.png", ("a_0000", ".png")),
            ("a.gz", ("a.gz", "")),
            ("a", ("a", "")),
        ],
    )
    def test_split_ending(self, name: str, parts: tuple[str, str]) -> None:
        assert split_ending(Path("folder") / name) == parts

    def test_group_channels(self) -> None:
        names = ["b_0001.nii", "a_0000.nii", "a_0001.nii", "b_0000.nii", "c.nii", "d_0007.nii", "_0000.nii"]
        groups = group_channels([Path(name) for name in names])
        assert {case: [path.name for path in paths] for case, paths in groups.items()} == {
            "_0000": ["_0000.nii"],
            "a": ["a_0000.nii", "a_0001.nii"],
            "b": ["b_0000.nii", "b_0001.nii"],
            "c": ["c.nii"],
            "d_0007": ["d_0007.nii"],
        }

    def test_image_files(self, tmp_path: Path) -> None:
        for name in ("b.nii.gz", "a.png", "._a.png", ".hidden.nii", "notes.txt"):
            (tmp_path / name).touch()
        (tmp_path / "folder.nii").mkdir()
        assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.nii.gz"]
        assert image_files(tmp_path / "missing") == []


def test_numbered_cases_are_no_channels_where_each_has_a_label_map(tmp_path: Path) -> None:
    """Scans that were numbered case_0000, case_0001, … before anybody had heard of channel files."""
    names = [f"case_{number:04d}.nii.gz" for number in range(6)]
    dataset = read_dataset(make(tmp_path / "d", DESCRIPTION, names, names))
    assert [case.id for case in dataset.cases] == [name.removesuffix(".nii.gz") for name in names]
    assert problems_of(make(tmp_path / "e", DESCRIPTION, names, ["case.nii.gz"])) == {
        "case": "6 channel files, but 1 channel in dataset.json"
    }


class TestPatientsAndFolds:
    ROW = {"image": "imagesTr/a_0000.nii.gz", "label": "labelsTr/a.nii.gz"}  # noqa: RUF012 (read only)

    def test_groups_of_a_folder_and_patients_of_entries(self, tmp_path: Path) -> None:
        found = read_dataset(nnunet(tmp_path / "d", groups={"a": "Ng", "b": 7}))
        assert found.patients == {"a": "Ng", "b": "7"}
        listed = read_dataset(nnunet(tmp_path / "e", training=[{**self.ROW, "patient": "Ng", "fold": 0}]))
        assert (listed.patients, listed.held_out) == ({"a": "Ng"}, {"a": 0})

    def test_nobody_said(self, tmp_path: Path) -> None:
        dataset = read_dataset(nnunet(tmp_path / "d"))
        assert (dataset.patients, dataset.held_out) == ({}, {})

    def test_contradictions_are_told_by_case(self, tmp_path: Path) -> None:
        assert problems_of(nnunet(tmp_path / "d", groups={"a": "p", "z": "p"})) == {
            "z": "is named under 'groups' in dataset.json, but there is no such case"
        }
        rows = [{**self.ROW, "patient": "p"}]
        assert problems_of(nnunet(tmp_path / "e", training=rows, groups={"a": "q"})) == {
            "a": "has two patients: 'p' in its entry, 'q' under 'groups'"
        }

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"groups": ["a"]}, "'groups' is malformed"),
            ({"groups": {"a": None}}, "'groups' is malformed"),
            ({"training": [{**ROW, "patient": ""}]}, "'patient' of entry 1"),
            ({"training": [{**ROW, "patient": 1.5}]}, "'patient' of entry 1"),
            ({"training": [{**ROW, "fold": -1}]}, "'fold' of entry 1"),
            ({"training": [{**ROW, "fold": True}]}, "'fold' of entry 1"),
            ({"training": [{**ROW, "fold": "0"}]}, "'fold' of entry 1"),
        ],
    )
    def test_what_is_malformed(self, change: dict[str, Any], words: str, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=words):
            read_dataset(nnunet(tmp_path / "d", **change))
