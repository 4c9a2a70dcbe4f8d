"""Datasets on disk → fingerprints: against hand-made images, against nnU-Net's own fingerprint, and with every kind of fault."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from skimage import measure

from autounet.dataset import read_dataset
from autounet.errors import DatasetError
from autounet.fingerprint import Fingerprint
from autounet.planners.extract import dataset_digest, extract_fingerprint
from autounet.runtime import Runtime

Write = Callable[..., Path]


def save(path: Path, array_zyx: np.ndarray, spacing_mm_zyx: tuple[float, ...] = (3.0, 2.0, 1.0)) -> None:
    """Writes a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing_mm_zyx[::-1], 1.0])
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array_zyx.T), affine), path)


@pytest.fixture
def write_dataset(tmp_path: Path) -> Write:
    """Writes a dataset of the given cases, ``name=(channels, labels)`` in z, y, x, and returns its folder."""

    def write(cases: dict[str, tuple[list[np.ndarray], np.ndarray]], labels: dict[str, Any] | None = None) -> Path:
        root = tmp_path / "Dataset001_Test"
        channels = len(next(iter(cases.values()))[0])
        root.mkdir()
        content = {
            "channel_names": {str(channel): "MRI" for channel in range(channels)},
            "labels": labels or {"background": 0, "organ": 1, "lesion": 2},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        }
        (root / "dataset.json").write_text(json.dumps(content))
        for name, (images, label) in cases.items():
            for channel, image in enumerate(images):
                save(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image)
            save(root / "labelsTr" / f"{name}.nii.gz", label)
        return root

    return write


def extract(root: Path, workers: int = 0) -> Fingerprint:
    return extract_fingerprint(read_dataset(root), Runtime(workers=workers))


def problems_of(root: Path) -> list[tuple[str, str]]:
    with pytest.raises(DatasetError) as caught:
        extract(root)
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.case, problem.what) for problem in caught.value.problems]


def ramp(value: float = 0.0) -> np.ndarray:
    """4×5×6 voxels: 1, 2, …, 120, plus ``value``."""
    return (np.arange(1, 121, dtype=np.float32) + value).reshape(4, 5, 6)


def marked(*places: tuple[int, int, int], value: int = 1) -> np.ndarray:
    """A label map of 4×5×6 voxels with ``value`` at the places."""
    labels = np.zeros((4, 5, 6), np.uint8)
    for place in places:
        labels[place] = value
    return labels


def test_shapes_volumes_and_relative_size(write_dataset: Write) -> None:
    """Two channels, nonzero in 2×3×6 voxels together: 36 of 120 voxels stay."""
    first, second = np.zeros((2, 4, 5, 6), np.float32)
    first[1, 1, :] = 7.0
    second[2, 3, 2] = 9.0
    labels = marked((1, 1, 0), (1, 1, 1)) + marked((2, 3, 2), value=2)
    made = extract(write_dataset({"a": ([first, second], labels)}))
    (case,) = made.cases
    assert (case.case, case.shape_zyx, case.shape_after_crop_zyx) == ("a", (4, 5, 6), (2, 3, 6))
    assert case.spacing_mm_zyx == (3.0, 2.0, 1.0)
    assert case.class_voxels == {"organ": 2, "lesion": 1}
    assert made.median_relative_size_after_crop == 36 / 120
    assert (made.ndim, made.channels) == (3, ("MRI", "MRI"))
    assert [entry.max for entry in made.intensities] == [7.0, 9.0]


def test_cases_weigh_the_same_whatever_their_foreground(write_dataset: Write) -> None:
    """One case has 1 labelled voxel of value 1, the other 120 of value 101..220: means 1 and 160.5, variances 0 and (120² - 1)/12."""
    one, many = marked((0, 0, 0)), np.ones((4, 5, 6), np.uint8)
    (made,) = extract(write_dataset({"a": ([ramp()], one), "b": ([ramp(100.0)], many)})).intensities
    assert made.mean == pytest.approx((1 + 160.5) / 2)
    assert made.std == pytest.approx(np.sqrt((0 + (120**2 - 1) / 12) / 2 + (159.5 / 2) ** 2))
    assert (made.min, made.max) == (1.0, 220.0)
    assert made.percentile_00_5 == 1.0
    assert made.percentile_99_5 == pytest.approx(219, abs=1)  # the highest of 120 values begins at 99.6 % of both cases


def test_percentiles_agree_with_sampling_as_nnunet_does(write_dataset: Write) -> None:
    rng = np.random.default_rng(0)
    cases = {
        f"c{number}": ([rng.gamma(2, 50, (4, 5, 6)).astype(np.float32)], rng.integers(0, 2, (4, 5, 6)).astype(np.uint8))
        for number in range(4)
    }
    (made,) = extract(write_dataset(cases)).intensities
    drawn = np.concatenate([rng.choice(image[labels > 0], 200_000) for (image,), labels in cases.values()])
    expected = np.percentile(drawn, (0.5, 50.0, 99.5))
    assert (made.percentile_00_5, made.median, made.percentile_99_5) == pytest.approx(expected, rel=0.02)
    assert made.mean == pytest.approx(drawn.mean(), rel=0.005)
    assert made.std == pytest.approx(drawn.std(), rel=0.005)


def test_ignore_voxels_are_no_foreground(write_dataset: Write) -> None:
    labels = marked((0, 0, 1)) + marked((3, 4, 5), value=2)
    root = write_dataset({"a": ([ramp()], labels)}, {"background": 0, "organ": 1, "ignore": 2})
    made = extract(root)
    assert made.cases[0].class_voxels == {"organ": 1}
    assert made.intensities[0].max == 2.0


def test_regions_count_all_their_values(write_dataset: Write) -> None:
    root = write_dataset({"a": ([ramp()], marked((0, 0, 0)) + marked((1, 1, 1), value=2))}, {"background": 0, "whole": [1, 2], "core": [2]})
    raw = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**raw, "regions_class_order": [1, 2]}))
    assert extract(root).cases[0].class_voxels == {"whole": 2, "core": 1}


def test_case_without_foreground_counts_for_shapes_only(write_dataset: Write) -> None:
    made = extract(write_dataset({"a": ([ramp()], marked((0, 0, 0))), "b": ([ramp(500.0)], marked())}))
    assert len(made.cases) == 2
    assert made.intensities[0].max == 1.0


def test_result_does_not_depend_on_the_workers(write_dataset: Write) -> None:
    root = write_dataset({f"c{number}": ([ramp(number)], marked((0, 0, number))) for number in range(5)})
    assert extract(root, 0).to_json() == extract(root, 3).to_json()


def test_all_problems_of_all_cases_are_collected(write_dataset: Write) -> None:
    good, labels = ramp(), marked((0, 0, 0))
    holed = ramp()
    holed[0, 0, 0] = np.nan
    cases = {
        "a_nan": ([holed], labels),
        "b_zero": ([np.zeros((4, 5, 6), np.float32)], labels),
        "c_value": ([good], marked((0, 0, 0), value=9)),
        "d_shape": ([good], np.ones((4, 5, 7), np.uint8)),
        "e_both": ([holed], marked((0, 0, 0), value=9)),
        "f_good": ([good], labels),
        "g_cut": ([good], labels),
    }
    root = write_dataset(cases)
    cut = root / "imagesTr" / "g_cut_0000.nii.gz"
    cut.write_bytes(cut.read_bytes()[:60])
    save(root / "labelsTr" / "f_good.nii.gz", labels, (3.0, 2.0, 1.5))
    found = problems_of(root)
    assert [case for case, _ in found] == ["a_nan", "b_zero", "c_value", "d_shape", "e_both", "e_both", "f_good", "g_cut"]
    text = dict(found)
    assert "every voxel is zero" in text["b_zero"]
    assert "found 9, expected 0, 1, 2" in text["c_value"]
    assert "shape 4×5×6 and 4×5×7" in text["d_shape"]
    assert "spacing 3, 2, 1 and 3, 2, 1.5 mm" in text["f_good"]
    with pytest.raises(DatasetError, match="8 problems in 7 of 7 cases"):
        extract(root)


def test_nothing_labelled_anywhere_is_refused(write_dataset: Write) -> None:
    root = write_dataset({"a": ([ramp()], marked()), "b": ([ramp()], marked())})
    with pytest.raises(DatasetError, match="nothing is labelled in any of 2 cases"):
        extract(root)


def two_bodies(exchanged: bool = False) -> np.ndarray:
    """A left body (1) at high x and a right one (2), mirror images about x = 9.5, each with a foot that points away from the other."""
    labels = np.zeros((6, 8, 20), np.uint8)
    labels[1:5, 1:7, 12:15] = labels[1:3, 1:3, 15:18] = 1
    labels[:, :, :10] = 2 * labels[:, :, :9:-1]
    return labels[:, :, ::-1] if exchanged else labels


def test_mirror_images_and_orientation(write_dataset: Write, caplog: pytest.LogCaptureFixture) -> None:
    """The affine diag(1, 2, 3) of NIfTI runs to the patient's right, front and head: S, A, R."""
    image = np.ones((6, 8, 20), np.float32)
    cases = {f"c{number}": ([image * (number + 1)], two_bodies(number == 4)) for number in range(5)}
    root = write_dataset(cases, {"background": 0, "organ left": 1, "organ right": 2})
    made = extract(root)
    assert {case.orientation for case in made.cases} == {"SAR"}
    assert {tuple(case.components) for case in made.cases} == {()}
    (pair,) = made.mirrored_classes
    assert (pair.first, pair.second, pair.axis_zyx, pair.cases, pair.likeness) == ("organ left", "organ right", 2, 5, 1.0)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["c4"]
    assert extract(root, 3).to_json() == made.to_json()


def test_mixed_orientations_are_warned_of(write_dataset: Write, caplog: pytest.LogCaptureFixture) -> None:
    root = write_dataset({name: ([ramp()], marked((0, 0, 0))) for name in "abc"})
    for folder in ("imagesTr/b_0000", "labelsTr/b"):
        path = root / f"{folder}.nii.gz"
        nib.save(nib.Nifti1Image(nib.load(path).get_fdata().astype(np.float32), np.diag([-1.0, 2.0, 3.0, 1.0])), path)
    assert [case.orientation for case in extract(root).cases] == ["SAR", "SAL", "SAR"]
    (message,) = [record.getMessage() for record in caplog.records if "orientation" in record.getMessage()]
    assert "b (SAL) is not stored as the others (SAR)" in message


def test_digest_follows_the_files(write_dataset: Write) -> None:
    root = write_dataset({"a": ([ramp()], marked((0, 0, 0)))})
    before = dataset_digest(read_dataset(root))
    assert extract(root).made_from == {"dataset": before}
    save(root / "labelsTr" / "a.nii.gz", np.ones((4, 5, 6), np.uint8).cumsum(0).astype(np.uint8) % 3)
    assert dataset_digest(read_dataset(root)) != before


def declare(root: Path, annotated: dict[str, list[str]]) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotated": annotated}))


def test_classes_that_are_not_annotated_are_not_counted_as_absent(write_dataset: Write) -> None:
    root = write_dataset({name: ([ramp()], marked((0, 0, 0), (0, 0, 1))) for name in ("a", "b")})
    before = dataset_digest(read_dataset(root))
    declare(root, {"b": ["organ"]})
    made = extract(root)
    assert [case.class_voxels for case in made.cases] == [{"organ": 2, "lesion": 0}, {"organ": 2}]
    assert [made.is_partial(case) for case in made.cases] == [False, True]
    assert made.made_from["dataset"] == dataset_digest(read_dataset(root)) != before


def test_of_regions_only_the_annotated_ones_are_counted(write_dataset: Write) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    root = write_dataset({"a": ([ramp()], marked((0, 0, 0), (0, 0, 1)) + marked((1, 0, 0), value=2))}, labels)
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "regions_class_order": [1, 2], "annotated": {"a": ["whole"]}}))
    assert extract(root).cases[0].class_voxels == {"whole": 3}


def test_a_class_that_is_said_not_to_be_annotated_and_is_there(write_dataset: Write) -> None:
    root = write_dataset({"a": ([ramp()], marked((0, 0, 0))), "b": ([ramp()], marked((0, 0, 0), value=2))})
    declare(root, {"a": ["organ"], "b": ["organ"]})
    ((case, what),) = problems_of(root)
    assert case == "b"
    assert what.startswith("b.nii.gz: ")
    assert "found 'lesion' (2), expected organ" in what


def test_hippocampus_equals_nnunets_fingerprint(shared: Path) -> None:
    made = extract(shared / "data" / "Task04_Hippocampus", workers=2)
    reference = json.loads((shared / "reference" / "msd" / "Dataset004_Hippocampus" / "dataset_fingerprint.json").read_text())
    assert len(made.cases) == 260
    assert ({case.orientation for case in made.cases}, made.mirrored_classes) == ({"SAR"}, ())
    assert sorted(list(case.shape_after_crop_zyx) for case in made.cases) == sorted(reference["shapes_after_crop"])
    assert sorted(list(case.spacing_mm_zyx) for case in made.cases) == sorted(reference["spacings"])
    assert made.median_relative_size_after_crop == reference["median_relative_size_after_cropping"]
    expected = reference["foreground_intensity_properties_per_channel"]["0"]
    found = made.intensities[0].model_dump()
    for exact in ("min", "max", "median", "percentile_00_5", "percentile_99_5"):
        assert found[exact] == expected[exact]
    # nnU-Net draws its voxels at random.
    assert found["mean"] == pytest.approx(expected["mean"], rel=1e-3)
    assert found["std"] == pytest.approx(expected["std"], rel=1e-3)


def test_planar_dataset(shared: Path) -> None:
    made = extract(shared / "data" / "Dataset101_EM", workers=2)
    assert made.ndim == 2
    assert {case.shape_after_crop_zyx for case in made.cases} == {(1, 512, 512)}
    assert {case.orientation for case in made.cases} == {""}
    # Labels: 1 is membrane, background the cells. Those of one image, counted by another library.
    first = np.asarray(Image.open(shared / "data" / "Dataset101_EM" / "labelsTr" / f"{made.cases[0].case}.png"))
    cells = measure.label(first == 0, connectivity=1)
    assert made.cases[0].components["background"] == sum(region.area >= 16 for region in measure.regionprops(cells))
    assert made.cases[0].components["background"] > 20
    assert made.mirrored_classes == ()
