"""The window's stream: finished rows in order, equal to adding up everything, however the sums are held and whatever memory allows."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from autounet.inference import window
from autounet.inference.accumulate import Band, make_band
from autounet.inference.tiles import OverlapTiles, axis_shares, count_tiles, tile_starts
from autounet.inference.window import predict_scores, predict_slabs

CPU = torch.device("cpu")


def random_image(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def uneven(x: Tensor) -> Tensor:
    """Two scores that depend on where in the patch a voxel is."""
    ramp = torch.linspace(1, 2, x[0, 0].numel()).reshape(x.shape[2:])
    return torch.stack((x.sum(1) * ramp, x[:, 0] ** 2 - ramp), 1)


def naive(forward: Callable[[Tensor], Tensor], image: Tensor, patch: tuple[int, int, int]) -> np.ndarray:
    """Everything added up in float64 on the whole grid, and divided by the sum of the weights; images at least as large as a patch."""
    peak = np.zeros(patch)
    peak[tuple(side // 2 for side in patch)] = 1
    weights = ndimage.gaussian_filter(peak, [side / 8 for side in patch], mode="constant")
    total, norm = np.zeros((2, *image.shape[1:])), np.zeros(tuple(image.shape[1:]))
    for corner in product(*(tile_starts(size, side) for size, side in zip(image.shape[1:], patch, strict=True))):
        box = tuple(slice(start, start + side) for start, side in zip(corner, patch, strict=True))
        total[(slice(None), *box)] += forward(image[(slice(None), *box)][None])[0].double().numpy() * weights
        norm[box] += weights
    return total / norm


@pytest.mark.parametrize("shape", [(19, 11, 13), (6, 6, 8), (25, 6, 9)])
def test_slabs_are_the_rows_of_the_whole_in_order(shape: tuple[int, int, int]) -> None:
    """None has more rows than a tile, and together they are what adding up everything gives."""
    image, patch = random_image((2, *shape)), (6, 6, 8)
    slabs = list(predict_slabs(uneven, image, patch, mirror_axes=(), batch_size=3, device=CPU))
    assert len(slabs) == len(tile_starts(shape[0], 6))
    assert max(slab.shape[1] for slab in slabs) <= 6
    assert all(slab.dtype == torch.float32 for slab in slabs)
    np.testing.assert_allclose(torch.cat(slabs, 1).numpy(), naive(uneven, image, patch), atol=2e-5)


def test_a_slab_is_there_as_soon_as_no_later_tile_reaches_it() -> None:
    """Rows 0 to 2 after the first of the tiles that start with row 3: 12 rows are not awaited."""
    done = []
    slabs = predict_slabs(uneven, random_image((1, 12, 8, 8)), (6, 8, 8), mirror_axes=(), batch_size=1, device=CPU, advance=done.append)
    assert next(slabs).shape[1] == 3
    assert sum(done) == 1  # the tile of row 3 is scored, but not yet added


def test_slices_come_in_handfuls() -> None:
    image = random_image((1, 20, 9, 9))
    slabs = list(predict_slabs(lambda x: x, image, (9, 9), mirror_axes=(0, 1), batch_size=7, device=CPU))
    assert [slab.shape[1] for slab in slabs] == [8, 8, 4]
    torch.testing.assert_close(torch.cat(slabs, 1), image)


@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
@pytest.mark.parametrize(
    ("limit_bytes", "error"),
    [(None, 1e-5), (2 * 6 * 11 * 13 * 4, 1e-5), (2 * 6 * 11 * 13 * 4 - 1, 5e-3), (10, 5e-3)],
    ids=["no limit", "fits", "float16", "a file"],
)
def test_a_network_that_returns_its_input_returns_the_image(
    tmp_path: Path, mirror_axes: tuple[int, ...], batch_size: int, limit_bytes: int | None, error: float
) -> None:
    """With every batch size, whatever holds the sums; float16 has three digits."""
    image = random_image((2, 19, 11, 13))
    found = predict_scores(
        lambda x: x,
        image,
        (6, 6, 8),
        mirror_axes=mirror_axes,
        batch_size=batch_size,
        device=CPU,
        limit_bytes=limit_bytes,
        scratch=tmp_path / "new",
    )
    torch.testing.assert_close(found, image, rtol=error, atol=error)
    assert list(tmp_path.glob("*/*")) == []  # the file has no name


def test_sums_in_a_file_equal_sums_in_memory(tmp_path: Path) -> None:
    image = random_image((2, 19, 11, 13))
    kept = [
        predict_scores(uneven, image, (6, 6, 8), mirror_axes=(1,), batch_size=2, device=CPU, limit_bytes=limit, scratch=tmp_path)
        for limit in (2 * 6 * 11 * 13 * 2, 1)
    ]
    assert torch.equal(*kept)


def test_sums_in_float16_cannot_overflow() -> None:
    """Eight tiles of 60000 are more than float16 holds, their convex combination is not; what is beyond its range is cut."""
    image = torch.full((1, 12, 12, 12), 60000.0) + random_image((1, 12, 12, 12))
    found = predict_scores(lambda x: x, image, (8, 8, 8), mirror_axes=(0,), batch_size=2, device=CPU, limit_bytes=2 * 12 * 12 * 8)
    torch.testing.assert_close(found, image, rtol=2e-3, atol=0)
    found = predict_scores(lambda x: -2 * x, image, (8, 8, 8), mirror_axes=(), batch_size=2, device=CPU, limit_bytes=2 * 12 * 12 * 8)
    assert found.isfinite().all()
    assert found.max() < -64900


def test_shares_of_a_voxel_sum_to_one() -> None:
    for starts, side in (((0, 3, 6, 10, 13), 7), ((0,), 5), ((0, 4), 8), ((0, 1), 1)):
        total = np.zeros(max(starts) + side)
        for start, share in zip(starts, axis_shares(starts, side, even=False), strict=True):
            assert share.min() > 0
            total[start : start + side] += share.numpy()
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_band_moves_on_by_any_number_of_rows() -> None:
    """As an array of all rows would have it."""
    rng = np.random.default_rng(0)
    band, whole = Band((1, 5, 2, 3), torch.float32, CPU), np.zeros((1, 40, 2, 3), np.float32)
    ones = (torch.ones(2), torch.ones(3))
    first, taken = 0, []
    while first < 35:
        for _ in range(3):
            start = first + int(rng.integers(0, 3))
            tile = rng.normal(size=(1, 3, 2, 3)).astype(np.float32)
            band.add((start, 0, 0), torch.from_numpy(tile), (torch.ones(3), *ones))
            whole[:, start : start + 3] += tile
        step = int(rng.integers(1, 6))
        taken.append(band.take(first + step, slice(None), slice(None)))
        first += step
    np.testing.assert_allclose(torch.cat(taken, 1).numpy(), whole[:, :first], atol=1e-6)


def test_where_the_sums_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a GPU while they do not crowd it, then in the host's memory, in halves, in a file; each step down says why."""
    caplog.set_level("INFO")
    shape, gpu = (2, 4, 4, 4), torch.device("meta")  # stands for a GPU
    assert make_band(shape, gpu, None, 512, None).device == gpu
    assert make_band(shape, gpu, None, 511, None).device == CPU
    assert "would crowd the GPU" in caplog.text
    caplog.clear()
    make_band(shape, CPU, 512, None, None)
    assert caplog.text == ""
    make_band(shape, CPU, 256, None, None)
    assert "summed in float16" in caplog.text
    make_band(shape, CPU, 255, None, tmp_path)
    assert f"summed in a file in {tmp_path}" in caplog.text


class Hungry:
    """A network that runs out of memory with more patches than it likes; counts what it saw."""

    def __init__(self, most: int, error: type[Exception] = MemoryError) -> None:
        self.most, self.error, self.sizes = most, error, list[int]()

    def __call__(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error("can't allocate memory: you tried to allocate 99 bytes")
        return uneven(x)


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, torch.OutOfMemoryError])
@pytest.mark.parametrize("most", [1, 3])
def test_batches_are_halved_when_memory_runs_out_and_nothing_counts_twice(
    most: int, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    image, network = random_image((2, 9, 10, 12)), Hungry(most, error)
    found = predict_scores(network, image, (6, 6, 8), mirror_axes=(0, 1), batch_size=12, device=CPU)
    expected = predict_scores(uneven, image, (6, 6, 8), mirror_axes=(0, 1), batch_size=12, device=CPU)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    tried = [12, 6, 3] if most == 3 else [12, 6, 3, 1]
    assert network.sizes[: len(tried)] == tried
    good = network.sizes[len(tried) - 1 :]
    assert sum(good) == 4 * count_tiles((9, 10, 12), (6, 6, 8))
    assert "going on with 6 (can't allocate memory" in caplog.text


def test_when_one_patch_does_not_fit_it_is_said() -> None:
    with pytest.raises(MemoryError, match="can't allocate"):
        predict_scores(Hungry(0), random_image((1, 8, 8, 8)), (6, 6, 8), mirror_axes=(), batch_size=4, device=CPU)


def test_sums_leave_the_gpu_when_one_patch_does_not_fit_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is summed up so far is carried over."""
    image, moved = random_image((1, 9, 10, 12)), list[int]()
    calls = 0

    class Elsewhere(Band):
        """Says that it lies on a GPU until it is moved."""

        @property
        def device(self) -> torch.device:
            return CPU if moved else torch.device("cuda")

        def to_host(self) -> None:
            moved.append(calls)

        def add(self, *arguments: object) -> None:
            before = list(moved)
            moved.append(0)
            super().add(*arguments)  # type: ignore[arg-type]
            moved[:] = before

    def forward(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return uneven(x)

    monkeypatch.setattr(window, "_band", lambda canvas, outputs, *rest: Elsewhere((outputs, 6, 10, 12), torch.float32, CPU))
    found = predict_scores(forward, image, (6, 6, 8), mirror_axes=(), batch_size=1, device=CPU)
    assert moved == [5]
    torch.testing.assert_close(found, predict_scores(uneven, image, (6, 6, 8), mirror_axes=(), batch_size=1, device=CPU))


def test_mistakes_are_not_taken_for_a_lack_of_memory() -> None:
    def wrong(x: Tensor) -> Tensor:
        raise RuntimeError("sizes of tensors must match")

    with pytest.raises(RuntimeError, match="must match"):
        predict_scores(wrong, random_image((1, 8, 8, 8)), (6, 6, 8), mirror_axes=(), batch_size=4, device=CPU)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("patch", [(6, 6, 8), (6, 8)])
def test_tiles_of_one_value_are_predicted_once(patch: tuple[int, ...], batch_size: int) -> None:
    """Air in front of and behind an object, of one value and then of another: the scores are those of predicting them all."""
    image = torch.full((2, 30, 12, 16), -1.0)
    image[1] = 0.5
    image[:, 12:16, 3:9, 3:9] = random_image((2, 4, 6, 6))
    image[:, 22:] = 2.0
    seen = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal seen
        seen += len(x)
        return uneven(x)

    axes = (0, 1)
    found = predict_scores(counting, image, patch, mirror_axes=axes, batch_size=batch_size, device=CPU)
    tiles = count_tiles((30, 12, 16), patch)
    assert seen < 4 * tiles * 0.75
    # A hair of noise in the corner of every tile, and none is of one value any more.
    noisy = image + 1e-7 * random_image((2, 30, 12, 16), 1)
    expected = predict_scores(counting, noisy, patch, mirror_axes=axes, batch_size=batch_size, device=CPU)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("patch", [(6, 6, 8), (6, 8)])
@pytest.mark.parametrize("shape", [(9, 10, 12), (3, 4, 5)])
def test_label_maps_of_an_earlier_stage_are_channels_behind_the_image(patch: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    """One per foreground label; what is outside (-1) is none of them."""
    image, labels = random_image((1, *shape)), torch.randint(-1, 4, shape, generator=torch.Generator().manual_seed(1)).to(torch.int8)
    whole = torch.cat((image, torch.stack([(labels == value).float() for value in (1, 2, 3)])))
    options = {"mirror_axes": (0,), "batch_size": 3, "device": CPU}
    found = predict_scores(uneven, image, patch, labels_zyx=labels, foreground=3, **options)
    torch.testing.assert_close(found, predict_scores(uneven, whole, patch, **options))


def test_label_maps_are_mirrored_beyond_the_edges_with_the_image() -> None:
    image, labels = random_image((1, 2, 9, 7)), torch.randint(0, 3, (2, 9, 7), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    whole = torch.cat((image, torch.stack([(labels == value).float() for value in (1, 2)])))
    overlap = OverlapTiles((4, 4), (2, 2))

    def middle(x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(uneven(x), 5, 1)

    options = {"mirror_axes": (), "batch_size": 3, "device": CPU, "overlap": overlap}
    found = predict_scores(middle, image, (8, 8), labels_zyx=labels, foreground=2, **options)
    torch.testing.assert_close(found, predict_scores(middle, whole, (8, 8), **options))
