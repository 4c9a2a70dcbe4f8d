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

from autounet.inference.tiles import OverlapTiles, axis_weights, count_tiles, overlap_tiles, seamless_starts, tile_starts
from autounet.inference.window import predict_scores
from autounet.networks.build import build_network
from autounet.networks.cost import output_size
from autounet.networks.unet2015 import crop_to
from autounet.plan import Configuration, NetworkSpec

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


def gaussian_weights(patch: Sequence[int]) -> npt.NDArray[np.float32]:
    """A tile's weights: the product of those along its axes."""
    weights = np.ones(())
    for side in patch:
        weights = weights[..., None] * axis_weights(side).numpy()
    return weights.astype(np.float32)


def test_gaussian_equals_nnunets(golden: dict[str, Any]) -> None:
    """Down to the corners, where they are 1e-11: there the ratio of two tiny weights decides which of two tiles counts."""
    for row in golden["gaussians"]:
        weights = gaussian_weights(row["patch"])
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


@pytest.mark.parametrize("batch_size", [1, 3, 4, 9])
def test_mirrored_is_the_mean_over_all_combinations(batch_size: int) -> None:
    """Of a single tile."""
    x = random_image((1, 4, 5, 6))
    turned = [
        edges(x[None].flip(axes)).flip(axes)[0] if axes else edges(x[None])[0]
        for axes in ([axis for axis, on in zip((2, 4), picked, strict=True) if on] for picked in product((0, 1), repeat=2))
    ]
    found = predict_scores(edges, x, (4, 5, 6), mirror_axes=(0, 2), batch_size=batch_size, device=CPU)
    torch.testing.assert_close(found, sum(turned) / 4)


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


@pytest.mark.parametrize(
    ("size", "scored", "step", "starts"),
    [
        (388, 388, 16, [0]),
        (512, 388, 16, [0, 128]),  # 124 more than a tile: 8 steps of 16, of which a tile covers 24
        (300, 388, 16, [-32]),  # 88 less than a tile, half of them in front
        (301, 388, 16, [-32]),
        (900, 388, 16, [0, 256, 512]),  # 32 steps in two strides: 16 each
        (25, 8, 4, [0, 8, 12, 20]),  # 5 steps in ceil(5 / 2) = 3 strides of 1.67: 0, 1.67, 3.33, 5
        (6, 3, 4, [0, 3]),  # a tile of less than a step starts anywhere
    ],
)
def test_seamless_starts_by_hand(size: int, scored: int, step: int, starts: list[int]) -> None:
    assert seamless_starts(size, scored, step) == starts


@given(st.integers(1, 2000), st.integers(1, 400), st.sampled_from([1, 4, 16]))
@settings(max_examples=300, deadline=None)
def test_seamless_tiles_cover_everything_without_a_gap(size: int, scored: int, step: int) -> None:
    starts = seamless_starts(size, scored, step)
    assert starts[0] <= 0
    assert size <= starts[-1] + scored < size + max(step, scored)
    assert all(0 < after - before <= scored for before, after in pairwise(starts))
    assert len(starts) == 1 or all(start % step == 0 or scored < step for start in starts)


@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
    scored=st.one_of(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 2)),
    margin=st.integers(0, 12),
    step=st.sampled_from([1, 2, 4]),
    batch_size=st.integers(1, 5),
    mirror=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_network_that_returns_the_middle_of_its_input_returns_the_image(
    shape: tuple[int, ...], scored: tuple[int, ...], margin: int, step: int, batch_size: int, mirror: bool
) -> None:
    """Images larger and smaller than a tile and than its margin, whole volumes and slices of them."""
    image = random_image(shape)
    patch = tuple(side + 2 * margin for side in scored)
    overlap = OverlapTiles(scored, (step,) * len(scored))
    axes = tuple(range(len(patch))) if mirror else ()
    scores = predict_scores(
        lambda x: crop_to(x[:, :1], scored), image, patch, mirror_axes=axes, batch_size=batch_size, device=CPU, overlap=overlap
    )
    torch.testing.assert_close(scores, image[:1], rtol=1e-6, atol=1e-6)


def test_margins_are_the_mirrored_image() -> None:
    """The sum over a window of 13 around every voxel of 4, of numpy's symmetric continuation: reflections repeat."""
    image = random_image((1, 1, 4, 4))

    def sums(x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(x, 13, 1) * 169

    found = predict_scores(sums, image, (16, 16), mirror_axes=(), batch_size=1, device=CPU, overlap=OverlapTiles((4, 4), (1, 1)))
    continued = np.pad(image[0, 0].numpy(), 6, mode="symmetric")
    expected = np.lib.stride_tricks.sliding_window_view(continued, (13, 13)).sum((2, 3))
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-4)


def test_overlapping_tiles_count_alike() -> None:
    """5 voxels in tiles of 4 with steps of 1: 1..3 are seen twice."""
    calls = iter([1.0, 2.0])
    scores = predict_scores(
        lambda x: torch.full((1, 1, 1, 4), next(calls)),
        random_image((1, 1, 1, 5)),
        (1, 8),
        mirror_axes=(),
        batch_size=1,
        device=CPU,
        overlap=OverlapTiles((1, 4), (1, 1)),
    )
    assert scores.ravel().tolist() == [1.0, 1.5, 1.5, 1.5, 2.0]


def small_unet2015(patch: tuple[int, int]) -> Configuration:
    network = NetworkSpec(
        kind="unet2015",
        ndim=2,
        in_channels=2,
        outputs=3,
        features=(4, 8, 8),
        strides=((1, 1), (2, 2), (2, 2)),
        kernel_sizes=((3, 3),) * 3,
        blocks_encoder=(2, 2, 2),
        blocks_decoder=(2, 2),
    )
    return Configuration(
        name="2d",
        spacing_mm=(1.0, 1.0),
        median_shape=(64.0, 64.0),
        patch_size=patch,
        batch_size=1,
        batch_dice=False,
        normalization=(),
        network=network,
        mirror_axes=(),
        decisions=(),
    )


@pytest.mark.parametrize("shape", [(1, 57, 83), (2, 100, 44), (1, 130, 21)])
@pytest.mark.parametrize("patch", [(60, 60), (52, 76)])
def test_tiles_equal_one_pass_over_the_whole_mirrored_image(shape: tuple[int, int, int], patch: tuple[int, int]) -> None:
    """Seamless: however the image is cut. Along an axis that is shorter than a tile, the one pass starts where the tile does."""
    configuration = small_unet2015(patch)
    network, image = build_network(configuration.network, seed=2).eval(), random_image((2, *shape))
    overlap = overlap_tiles(configuration)
    assert overlap is not None
    assert overlap.step == (4, 4)
    with torch.no_grad():
        found = predict_scores(lambda x: network(x)[0], image, patch, mirror_axes=(), batch_size=3, device=CPU, overlap=overlap)
        margin = 20  # (60 - 20) / 2, whatever the patch: per side 2 + 4 + 8 voxels going down, 4 and 2 going up
        pads = []
        for size, scored, step in zip(shape[1:], overlap.scored, overlap.step, strict=True):
            before = max((scored - size) // 2 // step * step, 0)
            whole = next(side for side in range(size + 2 * margin, size + 200) if _fits(configuration, side, size + 2 * before))
            pads.append((margin + before, whole - size - margin - before))
        continued = np.pad(image.numpy(), ((0, 0), (0, 0), *pads), mode="symmetric")
        for number in range(shape[0]):
            whole_scores = network(torch.from_numpy(continued[None, :, number]))[0][0]
            inner = tuple(slice(low - margin, low - margin + size) for (low, _), size in zip(pads, shape[1:], strict=True))
            torch.testing.assert_close(found[:, number], whole_scores[(slice(None), *inner)], rtol=1e-5, atol=1e-5)


def _fits(configuration: Configuration, side: int, wanted: int) -> bool:
    try:
        return output_size(configuration.network, (side, side))[0] >= wanted
    except ValueError:
        return False


def test_overlap_tiles_counted_by_hand() -> None:
    """512×512 pixels in tiles of 388: two by two. 3 slices of 40×40 in tiles of 60, that score 20: 2 by 2."""
    assert count_tiles((1, 512, 512), (572, 572), OverlapTiles((388, 388), (16, 16))) == 4
    overlap = overlap_tiles(small_unet2015((60, 60)))
    assert overlap == OverlapTiles((20, 20), (4, 4))
    assert count_tiles((3, 40, 40), (60, 60), overlap) == 3 * 2 * 2


@pytest.mark.parametrize("shape", [(1, 57, 83), (3, 9, 130)])
def test_progress_counts_every_seamless_tile(shape: tuple[int, int, int]) -> None:
    done: list[int] = []
    overlap = OverlapTiles((20, 20), (4, 4))
    predict_scores(
        lambda x: crop_to(x, (20, 20)),
        random_image((1, *shape)),
        (60, 60),
        mirror_axes=(),
        batch_size=4,
        device=CPU,
        advance=done.append,
        overlap=overlap,
    )
    assert sum(done) == count_tiles(shape, (60, 60), overlap)
