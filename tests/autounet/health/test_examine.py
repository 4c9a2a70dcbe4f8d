"""One mistake is planted into a dataset without any: it is found, with its case and severity, and nothing else is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autounet.dataset import read_dataset
from autounet.health.examine import examine
from autounet.health.findings import Health
from autounet.health.pictures import picture
from autounet.phantom import write_phantom
from autounet.runtime import Runtime
from autounet.splits import five_folds

Examined = Callable[..., Health]


def found(health: Health) -> set[tuple[str, str, str]]:
    return {(finding.case, finding.kind, finding.severity) for finding in health.findings}


def test_nothing_is_found_where_nothing_is_wrong(bodies: Any, examined: Examined) -> None:
    health = examined(bodies)
    assert (health.cases, health.findings, health.not_checked) == (12, (), ())


def test_nothing_is_found_in_the_demo(tmp_path: Path) -> None:
    """Vessels run from end to end and lesions are small and anywhere: traits of the data, not mistakes."""
    dataset = read_dataset(write_phantom(tmp_path, train=12, test=0))
    health = examine(dataset, five_folds([case.id for case in dataset.cases]), Runtime(workers=2))
    assert found(health) == set()


# Files


def spoil(name: str, content: bytes) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / name).write_bytes(content)

    return change


def test_files_that_cannot_be_used(bodies: Any, examined: Examined) -> None:
    bodies.after.append(spoil("imagesTr/body_01_0000.nii", b"no image"))
    bodies.cases["body_02"].image[3, 4, 5] = np.nan
    bodies.cases["body_03"].labels[10, 10, 10] = 9
    bodies.cases["body_04"].label_affine = np.diag([-2.0, -2.0, 4.0, 1.0])
    bodies.cases["body_05"].image[:] = 0
    health = examined(bodies)
    assert found(health) == {(f"body_0{number}", "unusable file", "severe") for number in range(1, 6)}
    said = " ".join(finding.what for finding in health.findings)
    assert all(word in said for word in ("NaN", "found 9, expected 0, 1, 2, 3", "different grids", "every voxel is zero"))
    assert all(finding.advice for finding in health.findings)
    assert health.severe == 5


def test_an_image_without_contrast(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].image[:] = 7
    assert found(examined(bodies)) == {("body_03", "constant image", "severe")}


def test_a_planar_image_among_volumes(bodies: Any, examined: Examined) -> None:
    case = bodies.cases["body_03"]
    case.image, case.labels = case.image[10], case.labels[10]
    assert found(examined(bodies)) == {("body_03", "unusable file", "severe")}


# Copies. The standard folds of these twelve hold out {0, 3, 8}, {7, 10, 11}, {6, 9}, {1, 4} and {2, 5}.


def test_a_copy_that_leaks(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_02"] = bodies.cases["body_01"]
    health = examined(bodies)
    assert found(health) == {("body_01", "copy", "severe")}
    (finding,) = health.findings
    assert finding.others == ("body_02",)
    assert "folds 3, 4 train on one and validate on another" in finding.what


def test_a_copy_that_no_fold_separates(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_04"] = bodies.cases["body_01"]
    health = examined(bodies)
    assert found(health) == {("body_01", "copy", "warning")}
    assert "validate" not in health.findings[0].what


def test_a_copy_with_another_label_map(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_04"].image = bodies.cases["body_01"].image
    bodies.cases["body_04"].labels = bodies.cases["body_01"].labels.copy()
    bodies.cases["body_04"].labels[10, 20, 33] = 0  # one voxel, in the middle of a kidney; too small a hole to be told of
    assert found(examined(bodies)) == {("body_01", "contradicting copy", "severe")}


def test_a_label_map_of_another_case(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_02"].labels = bodies.cases["body_01"].labels
    health = examined(bodies)
    assert found(health) == {("body_01", "copied label map", "warning")}


@pytest.mark.parametrize("other", [2, 4])
def test_a_near_copy_matters_where_folds_separate_it(other: int, bodies: Any, examined: Examined) -> None:
    """The same image with other noise and brightness, as a second scan of the subject or another compression would give."""
    original, copy = bodies.cases["body_01"], bodies.cases[f"body_{other:02d}"]
    noise = np.random.default_rng(9).normal(0, 4, original.image.shape)
    copy.image = np.clip(1.2 * original.image + noise, 0, None).astype(np.float32)
    copy.labels = original.labels.copy()
    copy.labels[9, 20, 33] = 0
    assert found(examined(bodies)) == ({("body_01", "likeness", "warning")} if other == 2 else set())


# Labels


def test_exchanged_sides(bodies: Any, examined: Examined) -> None:
    labels = bodies.cases["body_03"].labels
    bodies.cases["body_03"].labels = np.array([0, 2, 1, 3], np.uint8)[labels]
    assert found(examined(bodies)) == {("body_03", "exchanged sides", "severe")}


def test_an_island(bodies: Any, examined: Examined) -> None:
    """Two voxels of the left kidney's label on the other side, 20 voxels of 2 mm away from it."""
    bodies.cases["body_03"].labels[15, 30, 9:11] = 1
    health = examined(bodies)
    assert found(health) == {("body_03", "island", "warning")}
    (finding,) = health.findings
    assert finding.classes == ("kidney_left",)
    assert finding.place_zyx is not None
    assert finding.place_zyx[:2] == (15, 30)


def test_what_is_near_is_no_island(bodies: Any, examined: Examined) -> None:
    """A voxel that is 4 mm away, as a ragged edge has them."""
    labels = bodies.cases["body_03"].labels
    edge = int(np.argwhere(labels[10, 20] == 1).max())
    labels[10, 20, edge + 2] = 1
    assert found(examined(bodies)) == set()


def test_what_is_large_is_no_island(bodies: Any, examined: Examined) -> None:
    """A far part of a tenth of the kidney: perhaps there are two."""
    bodies.cases["body_03"].labels[14:17, 30:33, 8:12] = 1
    assert found(examined(bodies)) == set()


def test_islands_are_no_news_where_many_cases_have_them(bodies: Any, examined: Examined) -> None:
    for number in range(3):
        bodies.cases[f"body_{number:02d}"].labels[15, 30, 9:11] = 1
    assert found(examined(bodies)) == set()


def test_a_hole(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].labels[9:11, 19:21, 32:34] = 0
    health = examined(bodies)
    assert found(health) == {("body_03", "hole", "notice")}
    assert health.findings[0].what.startswith("8 voxels of background")


def test_a_label_outside_the_body(bodies: Any, examined: Examined) -> None:
    """A stroke of 12 × 4 voxels in a corner of three slices: too large for an island of the bladder."""
    bodies.cases["body_03"].labels[5:8, 42:46, 2:14] = 3
    health = examined(bodies)
    assert found(health) == {("body_03", "outside the body", "warning")}
    assert health.findings[0].classes == ("bladder",)


def test_a_structure_that_is_cut_off(bodies: Any, examined: Examined) -> None:
    """The image ends in the middle of the bladder."""
    case = bodies.cases["body_03"]
    case.image, case.labels = case.image[6:], case.labels[6:]
    health = examined(bodies)
    assert found(health) == {("body_03", "cut off", "notice")}
    assert health.findings[0].classes == ("bladder",)
    assert "first slice" in health.findings[0].what


@pytest.mark.parametrize(
    ("kept", "side"),
    [
        (np.s_[:11], "last slice"),
        (np.s_[:, 20:], "first row"),
        (np.s_[:, :34], "last row"),
        (np.s_[:, :, 15:], "first column"),
        (np.s_[:, :, :33], "last column"),
    ],
)
def test_the_side_of_a_cut(kept: Any, side: str, bodies: Any, examined: Examined) -> None:
    """Through the middle of a kidney (slice 10, row 20, columns 15 and 33), or of the bladder (row 34)."""
    case = bodies.cases["body_03"]
    case.image, case.labels = case.image[kept], case.labels[kept]
    health = examined(bodies)
    assert found(health) == {("body_03", "cut off", "notice")}
    assert all(f": {side} (" in finding.what for finding in health.findings)


def test_missing_structures_and_an_empty_label_map(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].labels[bodies.cases["body_03"].labels == 3] = 0
    assert found(examined(bodies)) == {("body_03", "missing structure", "warning")}


def test_an_empty_label_map(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].labels[:] = 0
    health = examined(bodies)
    assert found(health) == {("body_03", "empty label map", "warning")}
    assert health.findings[0].what == "nothing is labelled; 11 of 12 cases have labels"


def test_a_class_that_is_not_annotated_is_not_missing(bodies: Any, examined: Examined) -> None:
    def annotate(root: Path) -> None:
        content = json.loads((root / "dataset.json").read_text())
        (root / "dataset.json").write_text(json.dumps({**content, "annotated": {"body_03": ["kidney_left", "kidney_right"]}}))

    for number in (3, 4):
        labels = bodies.cases[f"body_{number:02d}"].labels
        labels[labels == 3] = 0
    bodies.after.append(annotate)
    assert found(examined(bodies)) == {("body_04", "missing structure", "warning")}


@pytest.mark.parametrize(("cases", "expected"), [(0, ("", "rare class", "warning")), (2, ("body_00", "rare class", "notice"))])
def test_a_class_that_few_cases_have(cases: int, expected: tuple[str, str, str], bodies: Any, examined: Examined) -> None:
    bodies.classes["lesion"] = 4
    for number in range(cases):
        bodies.cases[f"body_{number:02d}"].labels[12:15, 33:36, 30:33] = 4
    assert found(examined(bodies)) == {expected}


def test_a_tiny_structure(bodies: Any, examined: Examined) -> None:
    """A bladder of one third of the usual radius."""
    labels = bodies.cases["body_03"].labels
    centre = np.argwhere(labels == 3).mean(axis=0)
    keep = np.linalg.norm((np.indices(labels.shape).reshape(3, -1).T - centre) * (3, 2, 2), axis=1).reshape(labels.shape) <= 3.3
    labels[(labels == 3) & ~keep] = 0
    health = examined(bodies)
    assert found(health) == {("body_03", "size of a structure", "warning")}
    assert "times less than usual" in health.findings[0].what


def test_label_maps_with_nothing_in_them(bodies: Any, examined: Examined) -> None:
    for case in bodies.cases.values():
        case.labels[:] = 0
    assert found(examined(bodies)) == {("", "empty label map", "severe")}


# Grids


def test_another_unit_of_spacing(bodies: Any, examined: Examined) -> None:
    """Metres instead of millimetres. That all structures are smaller follows, and is not told as well."""
    bodies.cases["body_03"].affine = np.diag([-0.002, -0.002, 0.003, 1.0])
    health = examined(bodies)
    assert found(health) == {("body_03", "spacing", "warning")}
    assert "another unit than mm?" in health.findings[0].what


def test_a_lost_header(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    health = examined(bodies)
    assert found(health) == {("body_03", "spacing", "warning")}
    assert "the header may be lost" in health.findings[0].what


def test_another_orientation(bodies: Any, examined: Examined) -> None:
    """The columns run to the right, and the header says so: sides are not exchanged."""
    case = bodies.cases["body_03"]
    case.image, case.labels, case.affine = case.image[:, :, ::-1], case.labels[:, :, ::-1], np.diag([2.0, -2.0, 3.0, 1.0])
    health = examined(bodies)
    assert found(health) == {("body_03", "orientation", "warning")}
    assert "1 case stored as SPR, 11 as SPL" in health.findings[0].what


def test_a_tilted_gantry(bodies: Any, examined: Examined) -> None:
    """Each slice lies 1 mm (18°) to the back of the one before; image and label map alike."""
    for number in (3, 5):
        bodies.cases[f"body_{number:02d}"].affine[1, 2] = -1.0
    health = examined(bodies)
    assert found(health) == {("body_03", "slanted slices", "notice")}
    assert "2 of 12 cases with slices shifted against each other, slanted by up to 18.4°" in health.findings[0].what
    assert health.findings[0].others == ("body_05",)


# Intensities


@pytest.mark.parametrize(("channel", "severity"), [("MRI", "notice"), ("CT", "warning")])
def test_another_unit_of_intensity(channel: str, severity: str, bodies: Any, examined: Examined) -> None:
    bodies.channel = channel
    for number in (3, 4):
        bodies.cases[f"body_{number:02d}"].image *= 100 + number
    health = examined(bodies)
    assert found(health) == {("body_04", "brightness", severity)}
    assert health.findings[0].others == ("body_03",)


def test_shifted_intensities(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].image += 1024
    assert found(examined(bodies)) == {("body_03", "brightness", "notice")}


def test_numbers_of_any_size_do_no_harm(bodies: Any, examined: Examined, tmp_path: Path) -> None:
    """From 1e-25 to 1e35, as floats may be; warnings of overflow would be errors here."""
    for number, case in enumerate(bodies.cases.values()):
        case.image *= np.float32(10.0 ** (5 * number - 27))
    findings = examined(bodies).findings
    assert {finding.kind for finding in findings} <= {"brightness"}
    dataset = read_dataset(tmp_path / "Dataset021_Bodies")
    assert all(picture(finding, dataset) is not None for finding in findings)


def test_nothing_is_left_when_no_case_can_be_used(bodies: Any, examined: Examined) -> None:
    for case in bodies.cases.values():
        case.image[:] = 7
    assert {finding.kind for finding in examined(bodies).findings} == {"constant image"}


def test_inverted_contrast(bodies: Any, examined: Examined) -> None:
    image = bodies.cases["body_03"].image
    bodies.cases["body_03"].image = np.where(image > 20, np.clip(230 - image, 1, None), image).astype(np.float32)
    health = examined(bodies)
    assert found(health) == {("body_03", "inverted contrast", "warning")}
    assert set(health.findings[0].classes) == {"kidney_left", "kidney_right", "bladder"}


# All of it


def test_few_cases_say_what_cannot_be_told(bodies: Any, examined: Examined) -> None:
    bodies.cases = {name: case for name, case in bodies.cases.items() if name < "body_05"}
    bodies.cases["body_03"].labels[15, 30, 9:11] = 1
    health = examined(bodies)
    assert health.findings == ()
    assert health.not_checked == ("what is unusual: that needs 8 cases to compare, here are 5",)


def test_threads_change_nothing(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_03"].image *= 100
    bodies.cases["body_05"] = bodies.cases["body_01"]
    assert examined(bodies, workers=0) == examined(bodies, workers=3)


def test_findings_come_worst_first(bodies: Any, examined: Examined) -> None:
    bodies.cases["body_09"].image *= 100  # notice
    bodies.cases["body_03"].labels[15, 30, 9:11] = 1  # warning
    bodies.cases["body_02"] = bodies.cases["body_01"]  # severe
    assert [finding.severity for finding in examined(bodies).findings] == ["severe", "warning", "notice"]
