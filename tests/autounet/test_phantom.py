"""The generated dataset: reproducible, readable as any dataset, and no mere threshold."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nibabel")
import nibabel
from scipy import ndimage

from autounet.dataset import read_dataset
from autounet.errors import DatasetError
from autounet.image_names import image_files
from autounet.phantom import CLASSES, Volume, make_volume, write_phantom


@pytest.fixture(scope="module")
def volumes() -> list[Volume]:
    return [make_volume(seed=0, number=number) for number in range(16)]


def test_sizes_and_spacings_vary_within_the_stated_bounds(volumes: list[Volume]) -> None:
    for volume in volumes:
        assert volume.image_zyx.shape == volume.labels_zyx.shape == volume.grid.shape_zyx
        assert volume.image_zyx.dtype == np.int16
        z, y, x = volume.grid.shape_zyx
        assert 17 <= z <= 27
        assert 46 <= y <= 64
        assert 46 <= x <= 64
        thickness, height, width = volume.grid.spacing_mm_zyx
        assert 2.8 <= thickness <= 4
        assert 1.35 <= height == width <= 1.75
    assert len({volume.grid.spacing_mm_zyx for volume in volumes}) == 16


def test_every_case_has_every_structure_in_one_piece(volumes: list[Volume]) -> None:
    for volume in volumes:
        for value in range(1, len(CLASSES) + 1):
            pieces, count = ndimage.label(volume.labels_zyx == value)
            largest = np.bincount(pieces.ravel())[1:].max()
            assert largest > 100
            assert largest > 0.98 * (pieces > 0).sum(), f"{CLASSES[value - 1]} is in {count} pieces"


def test_sizes_in_mm_do_not_depend_on_the_spacing(volumes: list[Volume]) -> None:
    # Radii vary by 12 % each way, so volumes by far less than a factor of three; voxel sizes differ as well.
    for value, at_most in ((1, 2.5), (2, 3.0), (3, 3.0)):
        volumes_ml = [(v.labels_zyx == value).sum() * np.prod(v.grid.spacing_mm_zyx) / 1000 for v in volumes]
        assert max(volumes_ml) / min(volumes_ml) < at_most


def test_the_lesion_lies_within_the_large_organ(volumes: list[Volume]) -> None:
    for volume in volumes:
        lesion = volume.labels_zyx == CLASSES.index("lesion") + 1
        around = ndimage.binary_dilation(lesion) & ~lesion
        assert np.isin(volume.labels_zyx[around], (1, 3)).all()


def test_air_is_exactly_zero_and_the_body_is_not(volumes: list[Volume]) -> None:
    for volume in volumes:
        body = volume.image_zyx > 0
        assert not volume.image_zyx[~body].any()
        assert body[volume.labels_zyx > 0].all()
        assert 0.4 < body.mean() < 0.95


def best_threshold_dice(image: np.ndarray, mask: np.ndarray) -> float:
    """Dice of the best window of intensities, with the truth known: what no threshold can beat."""
    edges = np.quantile(image, np.linspace(0, 1, 61))
    inside = np.concatenate([[0], np.histogram(image[mask], edges)[0].cumsum()])
    everywhere = np.concatenate([[0], np.histogram(image, edges)[0].cumsum()])
    true = inside[None, :] - inside[:, None]
    found = everywhere[None, :] - everywhere[:, None]
    return float((2 * true / np.maximum(found + mask.sum(), 1)).max())


@pytest.mark.parametrize("name", CLASSES)
def test_thresholds_do_not_solve_it(volumes: list[Volume], name: str) -> None:
    dice = []
    for volume in volumes:
        body = volume.image_zyx > 0
        dice.append(best_threshold_dice(volume.image_zyx[body].astype(float), volume.labels_zyx[body] == CLASSES.index(name) + 1))
    assert np.mean(dice) < 0.65
    assert max(dice) < 0.85


def test_the_same_seed_gives_the_same_volumes(volumes: list[Volume]) -> None:
    again, other = make_volume(seed=0, number=3), make_volume(seed=1, number=3)
    assert np.array_equal(again.image_zyx, volumes[3].image_zyx)
    assert np.array_equal(again.labels_zyx, volumes[3].labels_zyx)
    assert again.grid == volumes[3].grid
    assert other.grid != volumes[3].grid


def test_is_written_as_a_normal_dataset(tmp_path: Path, volumes: list[Volume]) -> None:
    root = write_phantom(tmp_path / "data", train=2, test=1)
    assert root == tmp_path / "data" / "Dataset001_Phantom"
    assert [entry.name for entry in root.parent.iterdir()] == ["Dataset001_Phantom"]
    dataset = read_dataset(root)
    assert dataset.labels.names == CLASSES
    assert [case.id for case in dataset.cases] == ["phantom_001", "phantom_002"]
    assert [file.name for file in image_files(root / "imagesTs")] == ["phantom_003_0000.nii.gz"]
    assert [file.name for file in image_files(root / "labelsTs")] == ["phantom_003.nii.gz"]
    image, labels = (nibabel.load(path) for path in (dataset.cases[0].images[0], dataset.cases[0].label))
    # NIfTI's arrays are x, y, z.
    assert np.array_equal(np.asarray(image.dataobj).T, volumes[0].image_zyx)
    assert np.array_equal(np.asarray(labels.dataobj).T, volumes[0].labels_zyx)
    assert image.get_data_dtype() == np.int16
    assert image.header.get_zooms()[::-1] == pytest.approx(volumes[0].grid.spacing_mm_zyx)
    assert np.allclose(image.affine, labels.affine)


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    root = write_phantom(tmp_path, train=1, test=1)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_phantom(tmp_path, train=1, test=1)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    with pytest.raises(DatasetError, match="other content"):
        write_phantom(tmp_path, train=1, test=1, seed=5)
    (root / "labelsTr" / "phantom_001.nii.gz").unlink()
    with pytest.raises(DatasetError, match="labelsTr/phantom_001"):
        write_phantom(tmp_path, train=1, test=1)
    (root / "dataset.json").write_text(json.dumps([1]))
    with pytest.raises(DatasetError, match="other content"):
        write_phantom(tmp_path, train=1, test=1)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_phantom(tmp_path / "file", train=1, test=0)
