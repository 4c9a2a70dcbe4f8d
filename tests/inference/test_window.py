"""The sliding window: by hand, by properties, and against nnU-Net."""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autounet.inference.window import count_tiles, gaussian_weights, mirrored, predict_scores, tile_starts

CPU = torch.device("cpu")


def wave(shape: Sequence[int], phase: float) -> npt.NDArray[np.float64]:
    """As in benchmarks/golden."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def random_image(shape: Sequence[int], seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def edges(x: Tensor) -> Tensor:
    """Differences along the patch's axes, zero beyond its faces: neither symmetric nor blind to where a tile ends."""
    first = x.sum(1)
    ahead, behind = first.clone(), first.clone()
    for axis in range(1, first.ndim):
        size = first.shape[axis]
        ahead.narrow(axis, 0, size - 1).sub_(first.narrow(axis, 1, size - 1) * 0.5 * axis)
        behind.narrow(axis, 1, size - 1).add_(first.narrow(axis, 0, size - 1) ** 2)
    return torch.stack((ahead, behind), 1)


@pytest.mark.parametrize(
    ("size", "tile", "starts"),
    [
        (64, 64, [0]),
        (40, 64, [0]),  # smaller than the tile: it is padded to one
        (65, 64, [0, 1]),
        (110, 64, [0, 23, 46]),  # 46 more: ceil(46 / 32) = 2 steps of 23
        (96, 64, [0, 32]),
        (97, 64, [0, 16, 33]),  # steps of 16.5, and 16.5 rounds to the even 16
        (20, 7, [0, 3, 6, 10, 13]),  # 13 more: 4 steps of 3.25
    ],
)
def test_tile_starts_by_hand(size: int, tile: int, starts: list[int]) -> None:
    assert tile_starts(size, tile) == starts


def test_tile_starts_equal_nnunets(golden: dict[str, Any]) -> None:
    for row in golden["starts"]:
        assert tile_starts(row["size"], row["tile"]) == row["starts"], row


@given(st.integers(1, 700), st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_tiles_cover_everything_at_most_half_a_tile_apart(size: int, tile: int) -> None:
    starts = tile_starts(size, tile)
    assert starts[0] == 0
    assert starts[-1] == max(size - tile, 0)
    assert all(0 < after - before <= tile / 2 + 1 for before, after in pairwise(starts))


def test_gaussian_equals_nnunets(golden: dict[str, Any]) -> None:
    """Down to the corners, where they are 1e-11: there the ratio of two tiny weights decides which of two tiles counts."""
    for row in golden["gaussians"]:
        weights = gaussian_weights(tuple(row["patch"])).numpy()
        np.testing.assert_allclose(weights.ravel(), row["weights"], rtol=1e-6)


@pytest.mark.parametrize("patch", [(1,), (1, 1, 1), (8, 8), (40, 56, 40), (10, 256, 224), (512, 16)])
def test_gaussian_peaks_at_the_centre_and_is_nowhere_zero(patch: tuple[int, ...]) -> None:
    weights = gaussian_weights(patch)
    assert weights.shape == patch
    assert weights[tuple(side // 2 for side in patch)] == weights.max() == 1
    assert weights.min() > 0


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 14), st.integers(1, 14), st.integers(1, 14)),
    patch=st.one_of(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    batch_size=st.integers(1, 5),
    mirror=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_a_network_that_returns_its_input_returns_the_image(
    shape: tuple[int, ...], patch: tuple[int, ...], batch_size: int, mirror: bool
) -> None:
    """Images larger and smaller than the patch, whole volumes and slices of them."""
    image = random_image(shape)
    axes = tuple(range(len(patch))) if mirror else ()
    scores = predict_scores(lambda x: x[:, :1], image, patch, mirror_axes=axes, batch_size=batch_size, device=CPU)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, image[:1], rtol=1e-5, atol=1e-5)


def test_stitched_scores_equal_nnunets(golden: dict[str, Any]) -> None:
    """Tiles, padding, weights, mirroring and their mean, for a network that depends on all of them."""
    for name, row in golden["windows"].items():
        image = torch.from_numpy(wave(row["shape"], 0.3).astype(np.float32))
        mirror = tuple(row["mirror"] or ())
        scores = predict_scores(edges, image, tuple(row["patch"]), mirror_axes=mirror, batch_size=3, device=CPU)
        expected = np.array(row["scores"]).reshape(2, *row["shape"][1:])
        np.testing.assert_allclose(scores.numpy(), expected, atol=3e-5, err_msg=name)


def test_stitching_by_hand() -> None:
    """5 voxels in tiles of 4: voxel 0 has the first tile only, 1..3 both, weighted by w[i] and w[i-1], 4 the second only."""
    calls = iter([1.0, 2.0])
    scores = predict_scores(
        lambda x: torch.full_like(x, next(calls)), random_image((1, 1, 1, 5)), (1, 1, 4), mirror_axes=(), batch_size=1, device=CPU
    )
    w = gaussian_weights((1, 1, 4))[0, 0]
    expected = [1.0, *((1 * w[i] + 2 * w[i - 1]) / (w[i] + w[i - 1]) for i in (1, 2, 3)), 2.0]
    assert scores.ravel().tolist() == pytest.approx([float(value) for value in expected], rel=1e-6)


@pytest.mark.parametrize("patch", [(6, 6, 8), (6, 8)])
def test_the_batch_size_does_not_matter(patch: tuple[int, ...]) -> None:
    image = random_image((2, 9, 10, 12))
    results = [
        predict_scores(edges, image, patch, mirror_axes=tuple(range(len(patch))), batch_size=size, device=CPU) for size in (1, 2, 7, 1000)
    ]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_mirroring_changes_nothing_for_a_network_that_mirrors_with_its_input(axes: tuple[int, ...]) -> None:
    """The local mean over neighbours on both sides."""

    def blur(x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool3d(x, 3, 1, 1)

    image = random_image((1, 9, 10, 12))
    plain = predict_scores(blur, image, (6, 6, 8), mirror_axes=(), batch_size=2, device=CPU)
    torch.testing.assert_close(predict_scores(blur, image, (6, 6, 8), mirror_axes=axes, batch_size=2, device=CPU), plain)


def test_mirrored_prediction_of_a_symmetric_image_is_symmetric() -> None:
    """Whatever the network."""
    half = random_image((1, 6, 8, 5))
    image = torch.cat((half, half.flip(3)), 3)
    scores = predict_scores(edges, image, (6, 8, 10), mirror_axes=(2,), batch_size=2, device=CPU)
    torch.testing.assert_close(scores, scores.flip(3))


def test_mirrored_is_the_mean_over_all_combinations() -> None:
    x = random_image((2, 1, 4, 5, 6))
    turned = [
        edges(x.flip(axes)).flip(axes) if axes else edges(x)
        for axes in ([axis for axis, on in zip((2, 4), picked, strict=True) if on] for picked in product((0, 1), repeat=2))
    ]
    torch.testing.assert_close(mirrored(edges, x, (0, 2)), sum(turned) / 4)


@pytest.mark.parametrize("patch", [(6, 6, 8), (7, 5)])
@pytest.mark.parametrize("shape", [(9, 10, 12), (3, 4, 5)])
def test_progress_counts_every_tile(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    done: list[int] = []
    predict_scores(lambda x: x, random_image((1, *shape)), patch, mirror_axes=(), batch_size=4, device=CPU, advance=done.append)
    assert sum(done) == count_tiles(shape, patch)
    assert max(done) <= 4


def test_tiles_counted_by_hand() -> None:
    assert count_tiles((110, 64, 65), (64, 64, 64)) == 3 * 1 * 2
    assert count_tiles((7, 110, 65), (64, 64)) == 7 * 3 * 2
