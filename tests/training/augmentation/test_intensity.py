"""Changes of intensity: equal to batchgeneratorsv2, scipy and torch for the same parameters; drawn as often as nnU-Net does."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from autounet.training.augmentation.intensity import (
    Boxes,
    Bump,
    Change,
    IntensityTransform,
    Resolution,
    Uniform,
    add_brightness,
    add_bump,
    add_noise,
    blank_boxes,
    blur,
    change_gamma,
    change_gamma_inverted,
    gaussian_matrix,
    low_resolution_matrix,
    lower_resolution,
    scale_brightness,
    scale_contrast,
    stretch_contrast,
)
from autounet.training.augmentation.policy import POLICIES

NNUNET = POLICIES["nnunet"].intensity
CHANGES = {
    "contrast": scale_contrast,
    "gamma": change_gamma,
    "gamma of the negative": change_gamma_inverted,
    "blur": blur,
    "low resolution": lower_resolution,
}
SPACES = [(9, 8), (6, 7, 5)]


def _images(*space: int, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(count, *space))).float()


def _each(change: Change, images: torch.Tensor, *values: Sequence[float]) -> torch.Tensor:
    return torch.stack([change(image, row, 0) for image, row in zip(images, values, strict=True)])


@pytest.mark.parametrize("case", range(12))
def test_equals_batchgenerators(nnunet, wave, case: int) -> None:
    expected = nnunet["intensity"][case]
    image = torch.from_numpy(wave(expected["shape"], 1.0)).float()
    values = expected["values"] * (len(expected["shape"]) if expected["name"] == "low resolution" else 1)  # a scale for each axis
    ours = CHANGES[expected["name"]](image, values, 0)
    np.testing.assert_allclose(ours.flatten(), expected["image"], atol=1e-5)


def test_noise_has_the_drawn_standard_deviation_and_its_seed() -> None:
    image = torch.zeros(50, 60)
    noisy = add_noise(image, [0.05], seed=3)
    # 3000 samples: five standard errors are 5 / sqrt(2 · 3000) = 6.5 %.
    assert float(noisy.std()) == pytest.approx(0.05, rel=0.065)
    assert float(noisy.mean().abs()) < 0.01
    assert noisy.equal(add_noise(image, [0.05], seed=3))
    assert not noisy.equal(add_noise(image, [0.05], seed=4))


def test_channels_share_the_deviation_of_noise_but_not_the_noise() -> None:
    noise = NNUNET[0]
    draw = noise.draw(np.random.default_rng(0), 30, 2, 2, False)
    changed = noise.apply(torch.zeros(30, 2, 20, 20), draw)
    first, second = draw.samples[:2].tolist()
    assert first == second
    assert draw.values[0] == draw.values[1]
    assert changed[first, 0].any()
    assert not torch.allclose(changed[first, 0], changed[first, 1])


@pytest.mark.parametrize("space", SPACES)
def test_brightness_multiplies(space: tuple[int, ...]) -> None:
    images = _images(*space)
    changed = _each(scale_brightness, images, [0.75], [1.2])
    assert changed.equal(torch.stack([images[0] * 0.75, images[1] * 1.2]))


@pytest.mark.parametrize("space", SPACES)
def test_contrast_stretches_about_the_mean_within_the_range(space: tuple[int, ...]) -> None:
    images = _images(*space)
    changed = _each(scale_contrast, images, [0.75], [1.25])
    for before, after, factor in zip(images.numpy(), changed.numpy(), (0.75, 1.25), strict=True):
        np.testing.assert_allclose(after, np.clip((before - before.mean()) * factor + before.mean(), before.min(), before.max()), atol=1e-6)
    assert changed[1].max() == images[1].max()
    assert changed[1].min() == images[1].min()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("change", [change_gamma, change_gamma_inverted])
def test_gamma_keeps_mean_and_deviation_and_the_order_of_voxels(space: tuple[int, ...], change) -> None:
    images = _images(*space)
    changed = _each(change, images, [0.7], [1.5])
    dims = tuple(range(1, images.ndim))
    torch.testing.assert_close(changed.mean(dims), images.mean(dims), atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.std(dims), images.std(dims), atol=1e-5, rtol=0)
    assert changed.flatten(1).argsort(1).equal(images.flatten(1).argsort(1))
    assert not torch.allclose(changed, images, atol=1e-2)


@pytest.mark.parametrize("change", [scale_contrast, change_gamma, change_gamma_inverted])
def test_a_constant_image_stays_finite_and_constant(change) -> None:
    torch.testing.assert_close(change(torch.full((4, 4), 2.5), [1.4], 0), torch.full((4, 4), 2.5))


@pytest.mark.parametrize("space", [(20, 16), (14, 12, 16)])
def test_blur_equals_scipy(space: tuple[int, ...]) -> None:
    images, sigmas = _images(*space), np.array([[0.5, 0.8, 1.0], [1.0, 0.6, 0.9]])[:, : len(space)]
    blurred = _each(blur, images, *sigmas)
    for before, after, sigma in zip(images.numpy(), blurred.numpy(), sigmas, strict=True):
        radius = [{0.5: 1, 0.6: 2, 0.8: 2, 0.9: 2, 1.0: 3}[each] for each in sigma]  # 3.5, 4.1, 5.3, 5.9, 6.5 voxels: 3, 5, 5, 5, 7
        np.testing.assert_allclose(after, gaussian_filter(before, sigma, mode="mirror", radius=tuple(radius)), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_blur_of_a_short_axis_keeps_a_constant(size: int) -> None:
    np.testing.assert_allclose(gaussian_matrix(size, 1.0) @ np.ones(size), 1)


@pytest.mark.parametrize(("space", "mode"), [((17, 20), "bilinear"), ((9, 12, 10), "trilinear")])
def test_low_resolution_equals_torch(space: tuple[int, ...], mode: str) -> None:
    images, scales = _images(*space, count=3), [0.5, 0.71, 0.98]
    ours = _each(lower_resolution, images, *([scale] * len(space) for scale in scales))
    for before, after, scale in zip(images, ours, scales, strict=True):
        small = functional.interpolate(before[None, None], [round(side * scale) for side in space], mode="nearest-exact")
        torch.testing.assert_close(after, functional.interpolate(small, space, mode=mode)[0, 0], atol=1e-5, rtol=0)


def test_thick_slices_keep_their_number() -> None:
    rng = np.random.default_rng(0)
    thick, thin = (Resolution(0.5, 0.9).draw(rng, 3, within_slices) for within_slices in (True, False))
    assert thick[0] == 1 > thick[1] == thick[2]
    assert thin[0] == thin[1] == thin[2] < 1
    images = _images(5, 12, 10)
    ours = _each(lower_resolution, images, [1, 0.5, 0.5], [1, 0.7, 0.7])
    for index in range(5):
        torch.testing.assert_close(ours[:, index], _each(lower_resolution, images[:, index], [0.5, 0.5], [0.7, 0.7]))


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_full_resolution_changes_nothing(size: int) -> None:
    np.testing.assert_array_equal(low_resolution_matrix(size, 1.0), np.eye(size))


EXPECTED = {
    # name: (share of samples, share of their channels, range, half below and half above 1, values of one sample shared)
    "noise": (0.1, 1.0, (0, 0.1), False, True),
    "blur": (0.2, 0.5, (0.5, 1), False, False),
    "brightness": (0.15, 1.0, (0.75, 1.25), True, False),
    "contrast": (0.15, 1.0, (0.75, 1.25), True, False),
    "low resolution": (0.25, 0.5, (0.5, 1), False, False),
    "gamma of the negative": (0.1, 1.0, (0.7, 1.5), True, False),
    "gamma": (0.3, 1.0, (0.7, 1.5), True, False),
}


def test_the_list_and_its_order_are_nnunets() -> None:
    assert [transform.name for transform in NNUNET] == list(EXPECTED)


@pytest.mark.parametrize("transform", NNUNET, ids=list(EXPECTED))
def test_frequencies_and_ranges_of_the_draws(transform: IntensityTransform) -> None:
    samples, channels = 6000, 3
    probability, per_channel, (low, high), about_one, shared = EXPECTED[transform.name]
    draw = transform.draw(np.random.default_rng(0), samples, channels, 3, False)
    # Images (sample, channel) changed; five standard deviations of a share over 6000 samples are below 0.03.
    assert abs(len(draw.samples) / (samples * channels) - probability * per_channel) < 0.03
    if per_channel == 1:
        assert (np.bincount(draw.samples, minlength=samples) % channels == 0).all()
    assert draw.values.min() > low
    assert draw.values.max() < high
    assert draw.values.min() < low + 0.05 * (high - low)
    assert draw.values.max() > high - 0.05 * (high - low)
    if about_one:
        assert abs((draw.values < 1).mean() - 0.5) < 0.06
    else:
        assert abs(draw.values.mean() - (low + high) / 2) < 0.05 * (high - low)
    by_sample = [draw.values[draw.samples == sample] for sample in np.unique(draw.samples)[:50]]
    distinct = [len(np.unique(values, axis=0)) == (1 if shared else len(values)) for values in by_sample]
    assert all(distinct)
    assert draw.values.shape[1] == (3 if transform.name in ("blur", "low resolution") else 1)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_apply_changes_the_drawn_images_only(ndim: int, channels: int) -> None:
    rng = np.random.default_rng(1)
    for transform in {each.name: each for kind in POLICIES for each in POLICIES[kind].intensity}.values():
        image = _images(channels, *(8,) * ndim, count=12)
        draw = transform.draw(rng, 12, channels, ndim, False)
        changed = transform.apply(image.clone(), draw)
        touched = np.zeros((12, channels), bool)
        touched[draw.samples, draw.channels] = True
        differs = (changed != image).flatten(2).any(2).numpy()
        assert not differs[~touched].any()
        if transform.name not in ("low resolution", "blank boxes"):  # which may keep 8 voxels as 8, or blank a single voxel
            assert differs[touched].all()


def test_apply_of_an_empty_draw_changes_nothing() -> None:
    image = _images(1, 4, 4)
    never = IntensityTransform("never", 0.0, 1.0, Uniform(2.0, 3.0), scale_brightness)
    assert never.apply(image.clone(), never.draw(np.random.default_rng(0), 2, 1, 2, False)).equal(image)


@pytest.mark.parametrize("space", SPACES)
def test_added_brightness_and_contrast_beyond_the_range(space: tuple[int, ...]) -> None:
    image = _images(*space)[0]
    assert add_brightness(image, [-0.25], 0).equal(image - 0.25)
    stretched = stretch_contrast(image, [1.5], 0)
    assert float(stretched.mean()) == pytest.approx(float(image.mean()), abs=1e-6)
    assert float(stretched.std()) == pytest.approx(1.5 * float(image.std()), rel=1e-5)


@pytest.mark.parametrize("space", [(30, 20), (30, 20, 18)])
def test_a_bump_is_a_gaussian_from_nothing_to_its_height(space: tuple[int, ...]) -> None:
    ndim = len(space)
    centre, width = [0.55, 0.3, 0.5][:ndim], [0.3, 0.5, 0.2][:ndim]
    added = add_bump(torch.zeros(space), [-2.5, *centre, *width], 0).numpy()
    assert added.max() == pytest.approx(0, abs=1e-6)
    assert added.min() == pytest.approx(-2.5)
    at = np.indices(space) + 0.5
    distance = sum(((axis / side - c) / w) ** 2 for axis, side, c, w in zip(at, space, centre, width, strict=True))
    bump = np.exp(-distance / 2)
    np.testing.assert_allclose(added, -2.5 * (bump - bump.min()) / (bump.max() - bump.min()), atol=1e-5)


def test_bumps_are_drawn_in_parts_of_the_side() -> None:
    draws = np.array([Bump(1.0, 5.0).draw(np.random.default_rng(seed), 3, False) for seed in range(400)])
    heights, centres, widths = draws[:, 0], draws[:, 1:4], draws[:, 4:]
    assert ((np.abs(heights) > 1) & (np.abs(heights) < 5)).all()
    assert abs((heights > 0).mean() - 0.5) < 0.125  # five standard deviations
    assert centres.min() > -0.5
    assert centres.max() < 1.5
    assert widths.min() > 1 / 6
    assert widths.max() < 1
    assert np.log(widths).mean() == pytest.approx(np.log(1 / 6) / 2, abs=0.08)


@pytest.mark.parametrize("space", [(30, 40), (12, 30, 24), (2, 9, 9)])
def test_boxes_lie_within_the_image_and_hold_its_mean(space: tuple[int, ...]) -> None:
    """One box of a tenth to a third of each side; its mean stays, and nothing else changes."""
    image, seen = _images(*space)[0], []
    for seed in range(60):
        values = Boxes(1).draw(np.random.default_rng(seed), len(space), False)
        changed = blank_boxes(image, values, 0)
        where = np.argwhere((changed != image).numpy())
        if len(where) < 2:  # a box of one voxel is its own mean
            continue
        sides = where.max(0) - where.min(0) + 1
        assert len(where) == np.prod(sides)
        assert all(max(1, side // 10) <= found <= max(1, side // 3) for found, side in zip(sides, space, strict=True))
        assert float(changed.mean()) == pytest.approx(float(image.mean()), abs=1e-5)
        seen.append(tuple(where.min(0)))
    assert len(set(seen)) > 20


def test_numbers_of_boxes_are_drawn_evenly() -> None:
    counts = np.bincount([int(Boxes(4).draw(np.random.default_rng(seed), 2, False)[0]) for seed in range(800)], minlength=5)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 200).max() < 62  # five standard deviations
