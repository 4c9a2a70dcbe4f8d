"""Elastic deformation: drawn as the paper says, and equal to scipy's sampling for the same parameters."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from autounet.preprocessing.case import OUTSIDE
from autounet.training.augmentation.elastic import ElasticDraw, apply_elastic, displacement_field, draw_elastic
from autounet.training.augmentation.resample import reflected

STILL = np.zeros((1, 2, 3, 3))


def _draw(displacements: np.ndarray, *angles: float) -> ElasticDraw:
    return ElasticDraw(displacements, np.array(angles or (0.0,) * len(displacements)))


def _plane(rows: int = 24, columns: int = 30, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(1, channels, rows, columns))).float()
    return image, torch.from_numpy(rng.integers(0, 4, (1, rows, columns)).astype(np.int16))


def test_no_displacement_is_the_middle_of_the_loaded_patch() -> None:
    image, labels = _plane()
    cut, cut_labels = apply_elastic(image, labels, _draw(STILL), (10, 12), mirrored=True)
    torch.testing.assert_close(cut, image[:, :, 7:17, 9:21], atol=1e-5, rtol=0)
    assert cut_labels.equal(labels[:, 7:17, 9:21])


def test_a_constant_displacement_is_a_shift() -> None:
    image, labels = _plane()
    shift = STILL + np.array([3.0, -4.0])[None, :, None, None]
    cut, cut_labels = apply_elastic(image, labels, _draw(shift), (10, 12), mirrored=True)
    torch.testing.assert_close(cut, image[:, :, 10:20, 5:17], atol=1e-5, rtol=0)
    assert cut_labels.equal(labels[:, 10:20, 5:17])


def test_a_quarter_turn() -> None:
    image, labels = _plane(20, 20)
    cut, cut_labels = apply_elastic(image, labels, _draw(STILL, math.pi / 2), (10, 10), mirrored=True)
    torch.testing.assert_close(cut[0, 0], torch.rot90(image[0, 0, 5:15, 5:15], -1), atol=1e-4, rtol=0)
    assert cut_labels[0].equal(torch.rot90(labels[0, 5:15, 5:15], -1))


def test_the_field_passes_through_the_drawn_vectors() -> None:
    """At the corners, the middles of the edges and the centre; between them it is smooth and of the same order."""
    drawn = draw_elastic(np.random.default_rng(0), 4).displacements_px
    field = displacement_field(torch.from_numpy(drawn), (41, 61))
    np.testing.assert_allclose(field[:, :, ::20, ::30], drawn, atol=1e-9)
    assert float(field.abs().max()) < 2 * np.abs(drawn).max()
    steps = [field.diff(dim=axis).abs().max() for axis in (2, 3)]
    assert max(steps) < 0.2 * np.abs(drawn).max()  # nodes are 20 and 30 pixels apart


def test_the_field_is_bicubic() -> None:
    """Halfway between nodes a and b with c beyond, cubic convolution (A = -3/4, nodes repeated at the edge) weighs
    -3/32, 19/32, 19/32, -3/32: of a, a, b, c.
    """
    field = displacement_field(torch.tensor([1.0, 5.0, 2.0]).expand(1, 2, 3, 3).contiguous(), (3, 5))
    first, second = (19 * (1 + 5) - 3 * (1 + 2)) / 32, (19 * (5 + 2) - 3 * (1 + 2)) / 32
    assert field[0, 0, 1].tolist() == pytest.approx([1, first, 5, second, 2])


def test_displacements_have_ten_pixels_deviation_and_turns_any_angle() -> None:
    draw = draw_elastic(np.random.default_rng(0), 2000)
    assert draw.displacements_px.shape == (2000, 2, 3, 3)
    # 36 000 numbers: five standard errors are 5 · 10 / sqrt(72 000) of the deviation and 5 · 10 / sqrt(36 000) of the mean.
    assert draw.displacements_px.std() == pytest.approx(10, abs=0.19)
    assert draw.displacements_px.mean() == pytest.approx(0, abs=0.27)
    assert np.abs(np.corrcoef(draw.displacements_px.reshape(2000, -1), rowvar=False) - np.eye(18)).max() < 5 / math.sqrt(2000)
    counts, _ = np.histogram(draw.angles_rad, bins=8, range=(-math.pi, math.pi))
    assert counts.sum() == 2000
    assert np.abs(counts - 250).max() < 5 * math.sqrt(2000 * 7 / 64)


@pytest.mark.parametrize("mirrored", [True, False])
def test_equals_scipy(mirrored: bool) -> None:
    """Linear for images, the mirror image or zero beyond; labels are those of largest weight."""
    image, labels = _plane(26, 30, channels=2)
    image, labels = image.repeat(3, 1, 1, 1), labels.repeat(3, 1, 1)
    draw = draw_elastic(np.random.default_rng(3), 3)
    cut, cut_labels = apply_elastic(image, labels, draw, (20, 24), mirrored)
    field = displacement_field(torch.from_numpy(draw.displacements_px), (20, 24)).numpy()
    offsets = np.stack(np.meshgrid(np.arange(20) - 9.5, np.arange(24) - 11.5, indexing="ij"))
    seen = 0
    for sample in range(3):
        sine, cosine = math.sin(draw.angles_rad[sample]), math.cos(draw.angles_rad[sample])
        moved = offsets + field[sample]
        at = np.stack([cosine * moved[0] - sine * moved[1] + 12.5, sine * moved[0] + cosine * moved[1] + 14.5])
        mode = "reflect" if mirrored else "grid-constant"  # scipy's "reflect" repeats the edge
        for channel in range(2):
            expected = map_coordinates(image[sample, channel].double().numpy(), at, order=1, mode=mode)
            np.testing.assert_allclose(cut[sample, channel].numpy(), expected, atol=1e-3)
        one_hot = [(labels[sample].numpy() == label).astype(float) for label in range(4)]
        weights = np.stack([map_coordinates(each, at, order=1, mode=mode) for each in one_hot])
        weights = np.concatenate([weights, 1 - weights.sum(0, keepdims=True)])  # the rest lies outside
        second, first = np.sort(weights, 0)[-2:]
        clear = first - second > 2e-3
        assert clear.mean() > 0.8
        expected_labels = np.array([0, 1, 2, 3, OUTSIDE])[weights.argmax(0)]
        np.testing.assert_array_equal(cut_labels[sample].numpy()[clear], expected_labels[clear])
        seen += int((cut_labels[sample] == OUTSIDE).sum())
    assert (seen == 0) is mirrored


def test_labels_stay_labels() -> None:
    image, _ = _plane(60, 60)
    labels = torch.from_numpy(np.random.default_rng(1).choice(np.array([0, 7, 300], np.int16), (1, 60, 60)))
    for seed in range(5):
        _, deformed = apply_elastic(image, labels, draw_elastic(np.random.default_rng(seed), 1), (40, 40), mirrored=True)
        assert deformed.dtype == torch.int16
        assert set(deformed.unique().tolist()) <= {0, 7, 300}


def test_slices_of_a_volume_are_deformed_alike() -> None:
    rng = np.random.default_rng(2)
    image = torch.from_numpy(rng.normal(size=(2, 2, 5, 24, 24))).float()
    labels = torch.from_numpy(rng.integers(0, 4, (2, 5, 24, 24)).astype(np.int16))
    draw = draw_elastic(rng, 2)
    whole, whole_labels = apply_elastic(image, labels, draw, (3, 16, 16), mirrored=True)
    assert whole.shape == (2, 2, 3, 16, 16)
    for number in range(3):
        alone, alone_labels = apply_elastic(image[:, :, number + 1], labels[:, number + 1], draw, (16, 16), mirrored=True)
        torch.testing.assert_close(whole[:, :, number], alone)
        assert whole_labels[:, number].equal(alone_labels)


def test_positions_mirror_again_and_again() -> None:
    """As numpy's symmetric padding does, four times as wide as the axis; between voxels too."""
    np.testing.assert_array_equal(reflected(torch.arange(-8.0, 12.0), 4), np.pad(np.arange(4), 8, mode="symmetric"))
    assert reflected(torch.tensor([-1.75, -0.75, -0.25, 3.25, 3.75, 4.25]), 4).tolist() == [0.75, 0, 0, 3, 3, 2.75]
