"""Volumes as text: what comes out of the page is what went in, and it is never larger than allowed."""

import base64
import io
import zlib

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from autounet.report.volumes import Packed, Raw, pack

SPACING = (3.0, 1.0, 1.0)


def raw(shape: tuple[int, int, int] = (5, 24, 20), channels: int = 1, classes: int = 3) -> Raw:
    rng = np.random.default_rng(0)
    truth = np.zeros(shape, np.int64)
    truth[1:-1, 4:14, 3:12] = rng.integers(1, classes + 1, (shape[0] - 2, 10, 9))
    return Raw(
        [ndimage.gaussian_filter(rng.normal(1000, 50, shape), 1) for _ in range(channels)], truth, np.roll(truth, 1, axis=2), SPACING
    )


def labels_of(packed: Packed) -> tuple[np.ndarray, np.ndarray]:
    both = np.frombuffer(zlib.decompress(base64.b64decode(packed.labels)), f"<u{packed.label_bytes}").reshape(2, *packed.shape)
    return both[0], both[1]


def slices_of(packed: Packed, channel: int = 0) -> np.ndarray:
    """The sprite cut into its slices, as the page does it."""
    depth, height, width = packed.shape
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed.channels[channel].partition(",")[2]))))
    places = [divmod(slice_, packed.tile_columns) for slice_ in range(depth)]
    return np.stack([sheet[row * height :, column * width :][:height, :width] for row, column in places])


def test_a_small_volume_is_kept_whole() -> None:
    given = raw(channels=2)
    packed = pack(given, 10**6)
    assert packed is not None
    assert (packed.shape, packed.spacing_mm, packed.note) == ((5, 24, 20), SPACING, "")
    truth, prediction = labels_of(packed)
    np.testing.assert_array_equal(truth, given.truth)
    np.testing.assert_array_equal(prediction, given.prediction)
    for channel, image in enumerate(given.channels):
        low, high = np.percentile(image, (0.5, 99.5))
        expected = np.clip(np.rint((image - low) * 255 / (high - low)), 0, 255)
        assert packed.channels[channel].startswith("data:image/png;base64,")
        assert np.abs(slices_of(packed, channel) - expected).max() <= 1  # percentiles of float32


def test_many_classes_take_two_bytes() -> None:
    given = raw(classes=300)
    packed = pack(given, 10**6)
    assert packed is not None
    assert packed.label_bytes == 2
    np.testing.assert_array_equal(labels_of(packed)[0], given.truth)


@pytest.mark.parametrize("most", [200_000, 60_000, 20_000, 6_000, 2_500])
def test_it_never_takes_more_room_than_there_is(most: int) -> None:
    packed = pack(raw((24, 96, 80)), most)
    assert packed is not None
    assert packed.size <= most


def test_less_room_means_less_fidelity() -> None:
    given = raw((24, 96, 80))
    sizes = [pack(given, most) for most in (400_000, 120_000, 5_000)]
    whole, lossy, thin = (packed for packed in sizes if packed is not None)
    assert whole.channels[0].startswith("data:image/png")
    assert (lossy.channels[0][:15], lossy.shape, lossy.note) == ("data:image/jpeg", whole.shape, "")
    assert np.abs(slices_of(lossy).astype(int) - slices_of(whole)).mean() < 12
    assert "cut to the structures" in thin.note
    assert "every" in thin.note


def test_nothing_fits_into_nothing() -> None:
    assert pack(raw(), 10) is None


def test_thinned_labels_are_every_second_voxel_and_spacing_grows() -> None:
    """Cut to rows 0..22 and columns 0..20 (the margin is 8 voxels), then every second voxel from the second on."""
    given = raw((24, 96, 80))
    packed = next(packed for most in range(12_000, 3_000, -500) if (packed := pack(given, most)) and packed.note.endswith("second voxel"))
    truth, _ = labels_of(packed)
    np.testing.assert_array_equal(truth, given.truth[1::2, 1:22:2, 1:21:2][: truth.shape[0], : truth.shape[1], : truth.shape[2]])
    assert packed.spacing_mm == (6.0, 2.0, 2.0)


def test_colours_share_a_window() -> None:
    """Red from 100 to 200, green at 150 alone: grey values 0 to 255, and half of that."""
    red = np.linspace(100, 200, 400).reshape(1, 20, 20)
    green = np.full(red.shape, 150.0)
    zero = np.zeros(red.shape, np.uint8)
    packed = pack(Raw([red, green], zero, zero, SPACING, one_window=True), 10**5)
    assert packed is not None
    assert np.unique(slices_of(packed, 1)).tolist() == pytest.approx([127.5], abs=1)
    assert (slices_of(packed, 0).min(), slices_of(packed, 0).max()) == (0, 255)


def test_not_finite_voxels_are_black_or_white() -> None:
    image = np.linspace(0, 100, 400).reshape(1, 20, 20)
    image[0, 0, :3] = (np.nan, -np.inf, np.inf)
    zero = np.zeros(image.shape, np.uint8)
    packed = pack(Raw([image], zero, zero, SPACING), 10**5)
    assert packed is not None
    assert slices_of(packed)[0, 0, :3].tolist() == [0, 0, 255]
