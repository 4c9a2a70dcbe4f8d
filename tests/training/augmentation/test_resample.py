"""Labels between voxels: those of largest weight, for any number of maps and labels, on the way of CPUs and on that of other devices."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from autounet.preprocessing.case import OUTSIDE
from autounet.training.augmentation.resample import heaviest, prevailing


@pytest.mark.parametrize("loaded", [(9, 11), (7, 9, 8)])
@pytest.mark.parametrize("labels", [2, 6])
def test_the_label_of_largest_weight_is_taken(loaded: tuple[int, ...], labels: int) -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(0, labels, (2, 3, *loaded)).astype(np.int16)
    at = rng.uniform(-1.5, np.array(loaded) + 0.5, (2, 500, len(loaded)))
    found = prevailing(torch.from_numpy(maps), [torch.from_numpy(at[..., axis]).float() for axis in range(len(loaded))], False)
    assert found.shape == (2, 3, 500)
    for sample, number in itertools.product(range(2), range(3)):
        one_hot = [(maps[sample, number] == label).astype(float) for label in range(labels)]
        weights = np.stack([map_coordinates(each, at[sample].T, order=1, mode="grid-constant") for each in one_hot])
        weights = np.concatenate([weights, 1 - weights.sum(0, keepdims=True)])  # the rest lies outside
        second, first = np.sort(weights, 0)[-2:]
        clear = first - second > 1e-3
        assert clear.mean() > 0.9
        expected = np.array([*range(labels), OUTSIDE])[weights.argmax(0)]
        np.testing.assert_array_equal(found[sample, number].numpy()[clear], expected[clear])


def test_halfway_the_nearer_voxel_wins() -> None:
    """Of four voxels 1 2 / 3 2; halfway between the first two, the one of even number."""
    labels = torch.tensor([[1, 2], [3, 2]], dtype=torch.int16)[None, None]
    places = [torch.tensor([[0.0, 0.0, 0.2, 0.4]]), torch.tensor([[0.5, 0.4, 0.2, 0.45]])]
    assert prevailing(labels, places, mirrored=False).flatten().tolist() == [1, 1, 1, 2]


def test_looking_at_every_cell_gives_the_same() -> None:
    """What is done where picking out the cells of several labels would make the host wait."""
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(np.repeat(rng.integers(0, 4, (1, 1, 3, 4, 3)), 4, axis=3).astype(np.int16))
    places = [torch.from_numpy(rng.uniform(0, side - 1, (1, 300))).float() for side in labels.shape[2:]]
    strides, whole = labels.stride()[2:], labels[0, 0].numel()
    cells = sum(place[0].int().clamp(max=side - 2) * stride for place, side, stride in zip(places, labels.shape[2:], strides, strict=True))
    every = heaviest(labels.flatten(), cells, [place[0] + 0 for place in places], strides, whole)
    assert every.equal(prevailing(labels, places, mirrored=False).flatten())
