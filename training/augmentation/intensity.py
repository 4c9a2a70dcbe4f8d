"""Changes of intensity. Each transform draws values for (sample, channel) pairs, then changes these images at once.

Source of probabilities and ranges: nnUNetTrainer.py, get_training_transforms; of the functions: batchgeneratorsv2 0.3.6.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

TINY = 1e-7


@dataclass(frozen=True, slots=True)
class IntensityDraw:
    """Which images of a batch are changed, and by what."""

    samples: npt.NDArray[np.int64]
    channels: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    """(k, m): m numbers for each of the k images."""
    seed: int
    """For transforms that need random fields."""


@dataclass(frozen=True, slots=True)
class IntensityTransform:
    """One kind of change.

    Attributes:
        name: For messages and tests.
        probability: Per sample.
        channel_probability: Per channel of a chosen sample.
        draw_value: Generator and number of spatial axes → m numbers for one image.
        change: Images (k, *space), values (k, m), seed → changed images.
        shared: All channels of a sample get the same values.
    """

    name: str
    probability: float
    channel_probability: float
    draw_value: Callable[[np.random.Generator, int], list[float]]
    change: Callable[[Tensor, Tensor, int], Tensor]
    shared: bool = False

    def draw(self, rng: np.random.Generator, samples: int, channels: int, ndim: int) -> IntensityDraw:
        """Draws which images change and by what."""
        rows: list[tuple[int, int, list[float]]] = []
        for sample in range(samples):
            if rng.random() >= self.probability:
                continue
            value = self.draw_value(rng, ndim)
            for channel in range(channels):
                if self.channel_probability < 1 and rng.random() >= self.channel_probability:
                    continue
                rows.append((sample, channel, value))
                if not self.shared:
                    value = self.draw_value(rng, ndim)
        values = np.array([row[2] for row in rows], dtype=np.float64)
        return IntensityDraw(
            np.array([row[0] for row in rows], np.int64), np.array([row[1] for row in rows], np.int64), values, int(rng.integers(2**62))
        )

    def apply(self, image: Tensor, draw: IntensityDraw) -> Tensor:
        """Changes the drawn images of (n, c, *space) in place and returns the tensor."""
        if len(draw.samples):
            where = (torch.from_numpy(draw.samples).to(image.device), torch.from_numpy(draw.channels).to(image.device))
            values = torch.from_numpy(draw.values).to(image.device, image.dtype)
            image[where] = self.change(image[where], values, draw.seed)
        return image


def _uniform(low: float, high: float) -> Callable[[np.random.Generator, int], list[float]]:
    return lambda rng, ndim: [float(rng.uniform(low, high))]


def _uniform_per_axis(low: float, high: float) -> Callable[[np.random.Generator, int], list[float]]:
    return lambda rng, ndim: [float(value) for value in rng.uniform(low, high, ndim)]


def _below_or_above_one(low: float, high: float) -> Callable[[np.random.Generator, int], list[float]]:
    """Half of the draws below 1, half above, whatever the widths of the two ranges."""
    return lambda rng, ndim: [float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))]


def _column(values: Tensor, images: Tensor) -> Tensor:
    return values[:, 0].reshape(-1, *(1,) * (images.ndim - 1))


def _space(images: Tensor) -> tuple[int, ...]:
    return tuple(range(1, images.ndim))


def add_noise(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """Gaussian noise of standard deviation ``values``."""
    generator = torch.Generator(images.device).manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
    return images + noise * _column(values, images)


def scale_brightness(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """Multiplies by ``values``."""
    return images * _column(values, images)


def scale_contrast(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """Stretches about the mean by ``values``, kept within the image's own range."""
    space = _space(images)
    mean, low, high = images.mean(space, keepdim=True), images.amin(space, keepdim=True), images.amax(space, keepdim=True)
    return torch.clamp((images - mean) * _column(values, images) + mean, low, high)


def change_gamma(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """Power law of exponent ``values`` within the image's range; mean and standard deviation are restored after it."""
    space = _space(images)
    mean, std = images.mean(space, keepdim=True), images.std(space, keepdim=True)
    low = images.amin(space, keepdim=True)
    span = images.amax(space, keepdim=True) - low
    bent = ((images - low) / span.clamp(min=TINY)).pow(_column(values, images)) * span + low
    spread = bent.std(space, keepdim=True).clamp(min=TINY)
    return (bent - bent.mean(space, keepdim=True)) * (std / spread) + mean


def change_gamma_inverted(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """``change_gamma`` of the negative image."""
    return -change_gamma(-images, values, seed)


def blur(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """Gaussian blur; ``values`` (k, d) are standard deviations in voxels per axis."""
    for axis in range(images.ndim - 1):
        matrices = [gaussian_matrix(images.shape[axis + 1], sigma) for sigma in values[:, axis].tolist()]
        images = _along_axis(images, axis, matrices)
    return images


def lower_resolution(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """Nearest-neighbour shrinking by ``values`` and linear enlarging back, along every axis."""
    return _lower_resolution(images, values, range(images.ndim - 1))


def lower_resolution_in_slices(images: Tensor, values: Tensor, seed: int) -> Tensor:
    """``lower_resolution`` that leaves the first axis alone."""
    return _lower_resolution(images, values, range(1, images.ndim - 1))


def _lower_resolution(images: Tensor, values: Tensor, axes: range) -> Tensor:
    for axis in axes:
        matrices = [low_resolution_matrix(images.shape[axis + 1], scale) for scale in values[:, 0].tolist()]
        images = _along_axis(images, axis, matrices)
    return images


def gaussian_matrix(size: int, sigma: float) -> npt.NDArray[np.float64]:
    """Blur along an axis of ``size`` voxels as a matrix; the signal is mirrored at its ends.

    The kernel ends at four standard deviations (batchgeneratorsv2's at two to three, a difference below 0.5 % of the weight).
    """
    offsets = np.arange(-int(np.ceil(4 * sigma)), int(np.ceil(4 * sigma)) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size, size))
    period = max(2 * (size - 1), 1)
    for offset, weight in zip(offsets, weights, strict=True):
        at = np.abs((np.arange(size) + offset) % period)
        at = np.where(at >= size, period - at, at)
        np.add.at(matrix, (np.arange(size), at), weight)
    return matrix


def low_resolution_matrix(size: int, scale: float) -> npt.NDArray[np.float64]:
    """Nearest-neighbour shrinking to round(size · scale) voxels and linear enlarging back, as one matrix."""
    small = max(1, round(size * scale))
    picked = np.minimum(((np.arange(small) + 0.5) * size / small).astype(int), size - 1)
    at = np.clip((np.arange(size) + 0.5) * small / size - 0.5, 0, small - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, small - 1)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size), picked[low]), 1 - (at - low))
    np.add.at(matrix, (np.arange(size), picked[high]), at - low)
    return matrix


def _along_axis(images: Tensor, axis: int, matrices: list[npt.NDArray[np.float64]]) -> Tensor:
    """Applies one matrix per image along a spatial axis of (k, *space)."""
    stacked = torch.from_numpy(np.stack(matrices)).to(images.device, images.dtype)
    moved = images.movedim(axis + 1, 1)
    result = torch.bmm(stacked, moved.reshape(len(images), moved.shape[1], -1))
    return result.reshape(moved.shape).movedim(1, axis + 1)


def intensity_transforms(within_slices: bool) -> tuple[IntensityTransform, ...]:
    """nnU-Net's default list, in order; thick-sliced patches keep the resolution of their first axis."""
    lower = lower_resolution_in_slices if within_slices else lower_resolution
    return (
        # nnU-Net calls the range a variance and uses it as a standard deviation; so do we.
        IntensityTransform("noise", 0.1, 1.0, _uniform(0.0, 0.1), add_noise, shared=True),
        IntensityTransform("blur", 0.2, 0.5, _uniform_per_axis(0.5, 1.0), blur),
        IntensityTransform("brightness", 0.15, 1.0, _below_or_above_one(0.75, 1.25), scale_brightness),
        IntensityTransform("contrast", 0.15, 1.0, _below_or_above_one(0.75, 1.25), scale_contrast),
        IntensityTransform("low resolution", 0.25, 0.5, _uniform(0.5, 1.0), lower),
        IntensityTransform("gamma of the negative", 0.1, 1.0, _below_or_above_one(0.7, 1.5), change_gamma_inverted),
        IntensityTransform("gamma", 0.3, 1.0, _below_or_above_one(0.7, 1.5), change_gamma),
    )


GREY_VALUES = ("brightness", "contrast", "gamma of the negative", "gamma")


def grey_value_transforms() -> tuple[IntensityTransform, ...]:
    """Those of the list that change grey values pixel by pixel: no noise, no blur."""
    return tuple(transform for transform in intensity_transforms(within_slices=False) if transform.name in GREY_VALUES)
