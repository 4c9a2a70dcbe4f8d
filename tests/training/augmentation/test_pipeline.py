"""The whole augmentation of a batch: shapes, masks, and that samples do not touch each other."""

from typing import get_args

import numpy as np
import pytest
import torch

from autounet.plan import Configuration
from autounet.preprocessing.case import OUTSIDE
from autounet.preset import AugmentationKind
from autounet.rotation import rotation_rule
from autounet.training.augmentation.pipeline import Augmentation
from autounet.training.augmentation.policy import POLICIES
from autounet.training.sampler import initial_patch_size

KINDS = list(POLICIES)


def _batch(ndim: int, samples: int, channels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    side = initial_patch_size((16,) * ndim, rotation_rule((16,) * ndim))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (samples, *side)).astype(np.int16)
    labels[:, :6] = OUTSIDE
    return torch.from_numpy(rng.normal(size=(samples, channels, *side))).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_result_has_the_networks_patch_and_labels_from_zero(configuration, ndim: int, channels: int) -> None:
    augmentation = Augmentation(configuration(ndim, channels=channels), tuple(range(ndim)))
    image, labels = _batch(ndim, 12, channels)
    out, out_labels = augmentation.apply(image, labels, augmentation.draw(np.random.default_rng(0), 12, channels))
    assert out.shape == (12, channels, *(16,) * ndim)
    assert out_labels.shape == (12, *(16,) * ndim)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert out_labels.min() == 0
    assert out_labels.max() == 2


def test_same_generator_gives_the_same_batch(configuration) -> None:
    augmentation = Augmentation(configuration(3), (0, 1, 2))
    results = [
        augmentation.apply(*(part.clone() for part in _batch(3, 6, 1)), augmentation.draw(np.random.default_rng(seed), 6, 1))
        for seed in (5, 5, 6)
    ]
    assert results[0][0].equal(results[1][0])
    assert results[0][1].equal(results[1][1])
    assert not results[0][0].equal(results[2][0])


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_sample_does_not_depend_on_the_others_of_its_batch(configuration, ndim: int) -> None:
    augmentation = Augmentation(configuration(ndim, channels=2), tuple(range(ndim)))
    draw = augmentation.draw(np.random.default_rng(2), 8, 2)
    (image, labels), (other, other_labels) = _batch(ndim, 8, 2, seed=0), _batch(ndim, 8, 2, seed=1)
    for keep in range(8):
        mixed, mixed_labels = other.clone(), other_labels.clone()
        mixed[keep], mixed_labels[keep] = image[keep], labels[keep]
        mixed, mixed_labels = augmentation.apply(mixed, mixed_labels, draw)
        alone, alone_labels = augmentation.apply(image.clone(), labels.clone(), draw)
        torch.testing.assert_close(mixed[keep], alone[keep], atol=1e-5, rtol=1e-5)
        assert mixed_labels[keep].equal(alone_labels[keep])


def test_masked_channels_are_zero_outside_the_case(configuration) -> None:
    image, labels = _batch(3, 8, 2)
    draw_of = {}
    for use_mask in (True, False):
        augmentation = Augmentation(configuration(3, channels=2, use_mask=use_mask), ())
        draw = augmentation.draw(np.random.default_rng(0), 8, 2)
        draw_of[use_mask] = augmentation.apply(image.clone() + 10, torch.full_like(labels, OUTSIDE), draw)[0]
    assert draw_of[True].eq(0).all()
    assert (draw_of[False][:, :, 6:10, 6:10, 6:10] != 0).all()


def test_only_the_channels_normalised_with_a_mask_are_masked(configuration) -> None:
    entry = configuration(2, channels=2)
    schemes = (entry.normalization[0].model_copy(update={"use_mask": True}), entry.normalization[1])
    augmentation = Augmentation(entry.model_copy(update={"normalization": schemes}), ())
    image, labels = _batch(2, 4, 2)
    out, _ = augmentation.apply(image + 10, torch.full_like(labels, OUTSIDE), augmentation.draw(np.random.default_rng(0), 4, 2))
    assert out[:, 0].eq(0).all()
    assert (out[:, 1, 6:10, 6:10] != 0).all()


def test_mirroring_is_drawn_for_half_of_the_samples_and_allowed_axes_only(configuration) -> None:
    flips = Augmentation(configuration(3), (0, 2)).draw(np.random.default_rng(0), 2000, 1).flips
    assert not flips[:, 1].any()
    assert np.abs(flips[:, [0, 2]].mean(0) - 0.5).max() < 0.06  # five standard deviations of 2000 throws
    assert abs((flips[:, 0] & flips[:, 2]).mean() - 0.25) < 0.05


def _unpadded(entry: Configuration) -> Configuration:
    return entry.model_copy(update={"network": entry.network.model_copy(update={"kind": "unet2015"})})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_weights_move_with_the_image_and_keep_their_values(configuration, kind, ndim: int) -> None:
    """A last channel that the draw does not know of: a copy of the labels stays one, as far as linear and nearest sampling agree."""
    augmentation = Augmentation(configuration(ndim), tuple(range(ndim)), kind)
    image, labels = _batch(ndim, 8, 1)
    labels[:] = 2  # constant, so both samplings agree everywhere inside
    with_weights = torch.cat((image, labels[:, None].float()), 1)
    draw = augmentation.draw(np.random.default_rng(3), 8, 1)
    out, out_labels = augmentation.apply(with_weights, labels, draw)
    alone, _ = augmentation.apply(image.clone(), labels.clone(), draw)
    inside = out_labels == 2
    assert inside.float().mean() > 0.3
    weights = out[:, 1]
    assert weights.min() >= 0
    assert weights.max() <= 2 + 1e-5
    assert ((weights[inside] - 2).abs() < 1e-4).float().mean() > 0.9  # at the edge of the loaded patch linear sampling fades to zero
    torch.testing.assert_close(out[:, :1], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_patches_of_unpadded_networks_are_never_outside(configuration, kind) -> None:
    """However far a turned and deformed patch reaches, it finds the mirror image of what was loaded."""
    augmentation = Augmentation(_unpadded(configuration(2, side=16)), (0, 1), kind)
    image, labels = torch.ones(30, 1, 18, 18), torch.full((30, 18, 18), 2, dtype=torch.int16)
    draw = augmentation.draw(np.random.default_rng(0), 30, 1)
    moved, moved_labels = augmentation.apply(torch.cat((image, image), 1), labels, draw)
    torch.testing.assert_close(moved[:, 1], torch.ones(30, 16, 16))
    assert moved_labels.eq(2).all()


def test_every_kind_that_a_plan_may_name_has_a_policy() -> None:
    assert set(KINDS) == set(get_args(AugmentationKind))


def test_none_is_the_cut_alone(configuration) -> None:
    augmentation = Augmentation(configuration(3), (0, 1, 2), "none")
    image, labels = torch.rand(4, 1, 16, 16, 16), torch.randint(0, 3, (4, 16, 16, 16), dtype=torch.int16)
    same, same_labels = augmentation.apply(image, labels, augmentation.draw(np.random.default_rng(0), 4, 1))
    assert same.equal(image)
    assert same_labels.equal(labels)


@pytest.mark.parametrize(("kind", "threads"), [*((kind, 1) for kind in KINDS), ("nnunet", 2)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_part_of_a_batch_comes_out_as_in_the_whole(configuration, kind, ndim: int, threads: int) -> None:
    """Bit for bit, noise and all: so that processes which share a batch train as one would."""
    side = 33 if ndim == 3 else 182  # enough voxels for torch to share an image among threads
    augmentation = Augmentation(configuration(ndim, channels=2, side=side), tuple(range(ndim)), kind)
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(7, 2, *(side + 4,) * ndim))).float()
    labels = torch.from_numpy(rng.integers(-1, 3, (7, *(side + 4,) * ndim)).astype(np.int16))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        draw = augmentation.draw(np.random.default_rng(1), 7, 2)
        whole, whole_labels = augmentation.apply(image.clone(), labels.clone(), draw)
        for part in (range(0, 3), range(3, 4), range(4, 7)):
            inside = slice(part.start, part.stop)
            alone, alone_labels = augmentation.apply(image[inside].clone(), labels[inside].clone(), draw.part(part))
            assert alone.equal(whole[inside])
            assert alone_labels.equal(whole_labels[inside])
    finally:
        torch.set_num_threads(before)
