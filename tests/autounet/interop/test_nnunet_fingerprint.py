"""nnU-Net's fingerprint read as ours, and every way in which it can be wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from autounet.errors import ArtefactError, DatasetError
from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet

STATISTICS = {"mean": 1.0, "std": 2.0, "min": 0, "max": 9.0, "median": 1.5, "percentile_00_5": 0.5, "percentile_99_5": 8.5}
KEY = "foreground_intensity_properties_per_channel"


def files(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A sound pair of dataset_fingerprint.json and dataset.json; ``changes`` replace entries of the first."""
    fingerprint = {
        "spacings": [[3.0, 1.0, 1.0], [2.5, 1, 0.9]],
        "shapes_after_crop": [[20, 100, 110], [24, 90, 95]],
        "median_relative_size_after_cropping": 0.8,
        KEY: {"0": STATISTICS},
    }
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "ignore": 2}, "numTraining": 2}
    return {**fingerprint, **changes}, dataset


def test_everything_is_taken_over() -> None:
    made = fingerprint_from_nnunet(*files(), "Dataset009_Liver")
    assert made.dataset == "Dataset009_Liver"
    assert (made.ndim, made.channels, made.labels.names, made.labels.ignore_value) == (3, ("CT",), ("liver",), 2)
    assert [case.spacing_mm_zyx for case in made.cases] == [(3.0, 1.0, 1.0), (2.5, 1.0, 0.9)]
    assert [case.shape_after_crop_zyx for case in made.cases] == [(20, 100, 110), (24, 90, 95)]
    assert made.median_relative_size_after_crop == 0.8
    assert made.intensities[0].percentile_99_5 == 8.5


def test_real_fingerprint(shared: Path) -> None:
    folder = shared / "reference" / "msd" / "Dataset001_BrainTumour"
    raw, dataset = (json.loads((folder / name).read_text()) for name in ("dataset_fingerprint.json", "dataset.json"))
    made = fingerprint_from_nnunet(raw, dataset, folder.name)
    assert len(made.cases) == 484
    assert made.channels == ("FLAIR", "T1w", "t1gd", "T2w")
    assert [case.case for case in made.cases] == sorted(case.case for case in made.cases)


@pytest.mark.parametrize(
    ("spacing", "shape", "ndim"),
    [
        ([999, 1, 1], [1, 512, 512], 2),  # PNG
        ([499.5, 0.5, 0.5], [1, 512, 512], 2),  # planar NIfTI: 999 times the larger spacing
        ([8.0, 1.0, 1.0], [1, 512, 512], 3),  # a volume of one slice
        ([999, 1, 1], [2, 512, 512], 3),
    ],
)
def test_planar_images_are_recognised(spacing: list[float], shape: list[int], ndim: int) -> None:
    raw, dataset = files(spacings=[spacing] * 2, shapes_after_crop=[shape] * 2)
    assert fingerprint_from_nnunet(raw, dataset, "D").ndim == ndim


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacings": None}, "'spacings'"),
        ({"spacings": []}, "'spacings'"),
        ({"spacings": [[1.0, 1.0, 1.0]]}, "found 1 and 2 entries"),
        ({"spacings": [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]}, "'spacings' of case 0"),
        ({"spacings": [[1.0, 1.0, 1.0], [1.0, float("nan"), 1.0]]}, "'spacings' of case 1"),
        ({"spacings": [[1.0, 1.0], [1.0, 1.0, 1.0]]}, "three positive numbers"),
        ({"spacings": [["1", "1", "1"], [1.0, 1.0, 1.0]]}, "'spacings' of case 0"),
        ({"shapes_after_crop": [[0, 1, 1], [5, 5, 5]]}, "'shapes_after_crop' of case 0"),
        ({"shapes_after_crop": [[5, 5, 5], [5, 5.5, 5]]}, "three positive integers"),
        ({"median_relative_size_after_cropping": 0.0}, "'median_relative_size_after_cropping'"),
        ({"median_relative_size_after_cropping": True}, "'median_relative_size_after_cropping'"),
        ({KEY: {}}, "keys 0 to 0"),
        ({KEY: {"0": STATISTICS, "1": STATISTICS}}, "keys 0 to 0"),
        ({KEY: {"0": {**STATISTICS, "std": float("inf")}}}, "'std' of channel 0"),
        ({KEY: {"0": {"mean": 1.0}}}, "'std' of channel 0"),
        ({KEY: {"0": None}}, "'mean' of channel 0"),
    ],
)
def test_malformed_fingerprint_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtefactError, match=message) as caught:
        fingerprint_from_nnunet(*files(**changes), "Dataset009_Liver")
    assert "Dataset009_Liver" in str(caught.value)
    assert "Extract the fingerprint again" in str(caught.value)


def test_number_of_cases_must_be_that_of_the_dataset() -> None:
    raw, dataset = files()
    with pytest.raises(ArtefactError, match=r"found 2, expected 3, 'numTraining'"):
        fingerprint_from_nnunet(raw, {**dataset, "numTraining": 3}, "D")
    without = {key: value for key, value in dataset.items() if key != "numTraining"}
    assert len(fingerprint_from_nnunet(raw, without, "D").cases) == 2


def test_dataset_json_without_labels_is_refused() -> None:
    raw, _ = files()
    with pytest.raises(DatasetError, match="labels"):
        fingerprint_from_nnunet(raw, {"channel_names": {"0": "CT"}}, "D")
