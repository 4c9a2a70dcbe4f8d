"""The previous stage's prediction on its way to the second stage of a cascade. Against nnU-Net: test_nnunet.py."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from autounet.networks.previous import one_hot
from autounet.plan import Configuration
from autounet.preprocessing.case import OUTSIDE
from autounet.training.augmentation.cascade import apply_operator, ball, remove_component
from autounet.training.augmentation.pipeline import Augmentation


def _second_stage(entry: Configuration, labels: int) -> Configuration:
    network = entry.network.model_copy(update={"in_channels": entry.network.in_channels + labels})
    return entry.model_copy(update={"network": network, "previous_stage": "3d_lowres"})


@pytest.mark.parametrize("space", [(20, 24), (14, 15, 16)])
@pytest.mark.parametrize("radius", [1.0, 2.0, 4.0])
def test_operators_equal_scipy(space: tuple[int, ...], radius: float) -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=space), 1.5) > 0
    element = ball(radius, len(space)).numpy() > 0
    offsets = np.indices(element.shape) - int(radius)
    np.testing.assert_array_equal(element, (offsets**2).sum(0) <= radius**2)
    grown, eaten = ndimage.binary_dilation(mask, element), ndimage.binary_erosion(mask, element, border_value=1)
    expected = {
        "dilate": grown,
        "erode": eaten,
        "close": ndimage.binary_erosion(grown, element, border_value=1),
        "open": ndimage.binary_dilation(eaten, element),
    }
    for operator, changed in expected.items():
        np.testing.assert_array_equal(apply_operator(torch.from_numpy(mask), operator, radius).numpy(), changed)


def test_only_small_components_go() -> None:
    """Of 100 pixels: one component of 20, one of 4 and two that touch at a corner, which are one of 2."""
    channel = torch.zeros(10, 10)
    channel[0:4, 0:5] = channel[6:8, 0:2] = channel[8, 8] = channel[9, 9] = 1
    sizes = {int((channel - remove_component(channel, pick, 0.15)).sum()) for pick in np.linspace(0, 0.99, 20)}
    assert sizes == {4, 2}
    assert remove_component(channel, 0.5, 0.02).equal(channel)
    assert remove_component(torch.zeros(5, 5), 0.5, 0.15).equal(torch.zeros(5, 5))


def test_prediction_becomes_channels_after_the_images_own(configuration) -> None:
    """Moved as the labels are: a prediction that is right stays right, and weights stay last."""
    entry = _second_stage(configuration(3, channels=2), 2)
    augmentation = Augmentation(entry, (0, 1, 2))
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(6, 3, 18, 18, 18))).float()
    labels = torch.from_numpy(ndimage.zoom(rng.integers(0, 3, (6, 5, 5, 5)), (1, 3.6, 3.6, 3.6), order=0).astype(np.int16))
    labels[:, :3] = OUTSIDE
    draw = augmentation.draw(rng, 6, 2)
    out, out_labels = augmentation.apply(image.clone(), labels.clone(), draw, labels.clone())
    without, without_labels = augmentation.apply(image.clone(), labels.clone(), draw)
    assert out.shape == (6, 5, 16, 16, 16)
    assert out_labels.equal(without_labels)
    assert out[:, [0, 1, 4]].equal(without)
    assert draw.cascade is not None
    changes = zip(draw.cascade.operations, draw.cascade.removals, strict=True)
    untouched = [not operations and not removals for operations, removals in changes]
    assert 0 < sum(untouched) < 6
    right = one_hot(out_labels, 2, torch.float32)
    same = [bool(found.equal(expected)) for found, expected in zip(out[:, 2:4], right, strict=True)]
    assert all(equal for equal, kept in zip(same, untouched, strict=True) if kept)
    assert not all(same)
    assert set(out[:, 2:4].unique().tolist()) == {0, 1}


def test_none_leaves_the_prediction_as_it_is(configuration) -> None:
    augmentation = Augmentation(_second_stage(configuration(2), 3), (), "none")
    previous = torch.randint(-1, 4, (4, 16, 16), dtype=torch.int16)
    draw = augmentation.draw(np.random.default_rng(0), 4, 1)
    out, _ = augmentation.apply(torch.zeros(4, 1, 16, 16), previous.clone(), draw, previous)
    assert out[:, 1:].equal(one_hot(previous, 3, torch.float32))
    assert out[:, 1:].sum(1).equal((previous > 0).float())


def test_a_part_of_a_batch_comes_out_as_in_the_whole(configuration) -> None:
    augmentation = Augmentation(_second_stage(configuration(3), 2), (0, 1, 2))
    image, labels = torch.rand(5, 1, 18, 18, 18), torch.randint(0, 3, (5, 18, 18, 18), dtype=torch.int16)
    draw = augmentation.draw(np.random.default_rng(0), 5, 1)
    whole, _ = augmentation.apply(image.clone(), labels.clone(), draw, labels.clone())
    alone, _ = augmentation.apply(image[2:].clone(), labels[2:].clone(), draw.part(range(2, 5)), labels[2:].clone())
    assert alone.equal(whole[2:])
