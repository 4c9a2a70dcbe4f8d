"""Pictures show the right slice, the right way round, with what matters marked."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autounet.dataset import DatasetSpec, read_dataset
from autounet.errors import ArtefactError
from autounet.health.findings import Finding, Health, pictured
from autounet.health.pictures import CAPTION_PIXELS, CONCERNED, MOST_OF_A_KIND, OTHERS, PANEL_PIXELS, RING, draw_pictures, picture
from autounet.runtime import Runtime


@pytest.fixture
def dataset(bodies: Any, tmp_path: Path) -> DatasetSpec:
    """The twelve bodies; body_03 is a step from black to white along x, with one block of the bladder."""
    case = bodies.cases["body_03"]
    case.image[:] = 0
    case.image[:, :, 24:] = 100
    case.labels[:] = 0
    case.labels[10, 8:16, 4:12] = 3
    case.labels[10, 30:40, 4:12] = 1
    return read_dataset(bodies.write(tmp_path / "Dataset021_Bodies"))


def finding(**changes: Any) -> Finding:
    usual = {"case": "body_03", "kind": "island", "severity": "warning", "what": "w", "advice": "a", "classes": ("bladder",)}
    return Finding(**{**usual, "place_zyx": (10, 12, 8), **changes})


def pixels(content: bytes | None) -> np.ndarray:
    assert content is not None
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def where(shown: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of this colour."""
    return np.argwhere((shown == colour).all(axis=2))


def test_a_slice_is_shown_as_radiologists_see_it(dataset: DatasetSpec) -> None:
    """48×48 square pixels on 320: the block of rows 8 to 15 and columns 4 to 11 begins at 53 and 27. Bright is the patient's left."""
    shown = pixels(picture(finding(), dataset))[CAPTION_PIXELS:, :PANEL_PIXELS]
    assert shown.shape[:2] == (PANEL_PIXELS, PANEL_PIXELS)
    edge = where(shown[:280], CONCERNED[0])  # below stands the name, in the same colour
    assert abs(edge.min(axis=0) - (8 * 320 / 48, 4 * 320 / 48)).max() < 2
    assert abs(edge.max(axis=0) - (16 * 320 / 48, 12 * 320 / 48)).max() < 2
    assert len(where(shown, OTHERS))  # the kidney
    assert shown[5, -5].tolist() == [255] * 3
    assert shown[5, 5].tolist() == [0] * 3


def test_the_ring_is_around_the_place(dataset: DatasetSpec) -> None:
    ring = where(pixels(picture(finding(), dataset))[CAPTION_PIXELS:, :PANEL_PIXELS], RING)
    assert abs(ring.mean(axis=0) - (12.5 * 320 / 48, 8.5 * 320 / 48)).max() < 3
    assert not len(where(pixels(picture(finding(kind="size of a structure"), dataset)), RING))


def test_images_that_run_the_other_way_are_turned(bodies: Any, dataset: DatasetSpec, tmp_path: Path) -> None:
    """The same body stored with its columns reversed looks the same, ring and all; how it is stored is shown where that is the matter."""
    case = bodies.cases["body_03"]
    case.image, case.labels, case.affine = case.image[:, :, ::-1], case.labels[:, :, ::-1], np.diag([2.0, -2.0, 3.0, 1.0])
    other = read_dataset(bodies.write(tmp_path / "Dataset022_Turned"))
    plain, turned = pixels(picture(finding(), dataset)), pixels(picture(finding(place_zyx=(10, 12, 39)), other))
    assert np.array_equal(plain, turned)
    stored = pixels(picture(finding(kind="orientation"), other))
    assert stored[CAPTION_PIXELS + 5, 5].tolist() == [255] * 3  # bright on the left, as in the file


def test_long_voxels_are_shown_long(bodies: Any, tmp_path: Path) -> None:
    bodies.cases["body_03"].affine = np.diag([-2.0, -4.0, 3.0, 1.0])
    dataset = read_dataset(bodies.write(tmp_path / "Dataset022_Long"))
    shown = pixels(picture(finding(kind="size of a structure"), dataset))
    assert shown.shape[:2] == (CAPTION_PIXELS + PANEL_PIXELS, PANEL_PIXELS // 2)


def test_a_case_is_shown_beside_it(dataset: DatasetSpec) -> None:
    alone = pixels(picture(finding(kind="size of a structure"), dataset))
    both = pixels(picture(finding(kind="size of a structure", beside="body_01"), dataset))
    assert both.shape[1] > 2 * alone.shape[1]
    assert np.array_equal(both[:, : alone.shape[1]], alone)


@pytest.mark.parametrize("changes", [{"place_zyx": None}, {"case": ""}, {"case": "gone"}])
def test_what_cannot_be_shown_has_no_picture(changes: dict[str, Any], dataset: DatasetSpec) -> None:
    assert picture(finding(**changes), dataset) is None


def test_pictures_reach_the_page(dataset: DatasetSpec, tmp_path: Path) -> None:
    """The worst of each kind are drawn; older pictures go; a file that has gone since costs its picture only."""
    folder = tmp_path / "health"
    folder.mkdir()
    (folder / "099.png").write_bytes(b"old")
    many = [finding(what=str(number)) for number in range(MOST_OF_A_KIND + 2)]
    gone = finding(kind="hole", severity="notice", case="body_05")
    dataset.cases[5].images[0].unlink()
    health = Health(made_from={}, dataset="D", cases=12, findings=(*many, gone))
    drawn = draw_pictures(health, dataset, folder, Runtime(workers=2))
    shown = pictured(drawn, folder)
    assert [entry.what for entry in shown] == [entry.what for entry in health.findings]
    assert [entry.picture is not None for entry in shown] == [True] * MOST_OF_A_KIND + [False] * 3
    assert all(pixels(entry.picture).ndim == 3 for entry in shown if entry.picture)
    assert len(list(folder.glob("*.png"))) == MOST_OF_A_KIND
    (folder / str(drawn.findings[0].picture)).unlink()
    assert pictured(drawn, folder)[0].picture is None


def test_a_folder_that_cannot_be_written_is_an_error(dataset: DatasetSpec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="cannot be written"):
        draw_pictures(Health(made_from={}, dataset="D", cases=1, findings=()), dataset, tmp_path / "file", Runtime())
