"""Changes of intensity. Each transform draws values for (sample, channel) pairs, then changes these images at once.

Source of probabilities and ranges: nnUNetTrainer.py, get_training_transforms; of the functions: batchgeneratorsv2 0.3.6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

TINY = 1e-7

Change = Callable[[Tensor, Sequence[float], int], Tensor]
"""Image (*space), numbers, seed → the changed image."""


@dataclass(frozen=True, slots=True)
class IntensityDraw:
    """Which images of a batch are changed, and by what."""

    samples: npt.NDArray[np.int64]
    channels: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    """(k, m): m numbers for each of the k images."""
    seeds: npt.NDArray[np.int64]
    """(k,): for transforms that need random fields; one for each image, so that a part of a batch gets its own."""

    def part(self, samples: range) -> "IntensityDraw":
        """The draw of some samples of the batch, which are then counted from 0."""
        kept = (self.samples >= samples.start) & (self.samples < samples.stop)
        return IntensityDraw(self.samples[kept] - samples.start, self.channels[kept], self.values[kept], self.seeds[kept])


@dataclass(frozen=True, slots=True)
class IntensityTransform:
    """One kind of change.

    Attributes:
        name: For messages and tests.
        probability: Per sample.
        channel_probability: Per channel of a chosen sample.
        draw_value: Generator and number of spatial axes → m numbers for one image.
        change: What is done to an image.
        shared: All channels of a sample get the same values.
    """

    name: str
    probability: float
    channel_probability: float
    draw_value: Callable[[np.random.Generator, int], list[float]]
    change: Change
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
        at = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
        values = np.array([row[2] for row in rows], dtype=np.float64)
        return IntensityDraw(at[:, 0], at[:, 1], values, rng.integers(2**62, size=len(rows)))

    def apply(self, image: Tensor, draw: IntensityDraw) -> Tensor:
        """Changes the drawn images of (n, c, *space) in place and returns the tensor.

        One after the other: few are drawn, their numbers stay on the host, and none depends on how many others there are, to the bit.
        """
        drawn = zip(draw.samples.tolist(), draw.channels.tolist(), draw.values.tolist(), draw.seeds.tolist(), strict=True)
        for sample, channel, values, seed in drawn:
            image[sample, channel] = self.change(image[sample, channel], values, seed)
        return image


def _uniform(low: float, high: float) -> Callable[[np.random.Generator, int], list[float]]:
    return lambda rng, ndim: [float(rng.uniform(low, high))]


def _uniform_per_axis(low: float, high: float) -> Callable[[np.random.Generator, int], list[float]]:
    return lambda rng, ndim: [float(value) for value in rng.uniform(low, high, ndim)]


def _below_or_above_one(low: float, high: float) -> Callable[[np.random.Generator, int], list[float]]:
    """Half of the draws below 1, half above, whatever the widths of the two ranges."""
    return lambda rng, ndim: [float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))]


def add_noise(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Gaussian noise of the given standard deviation."""
    generator = torch.Generator(image.device).manual_seed(seed)
    noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    return noise.mul_(values[0]).add_(image)


def scale_brightness(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Multiplies by the given factor."""
    return image * values[0]


def scale_contrast(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Stretches about the mean by the given factor, kept within the image's own range."""
    mean, (low, high) = image.mean(), torch.aminmax(image)
    return (image - mean).mul_(values[0]).add_(mean).clamp_(low, high)


def change_gamma(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Power law of the given exponent within the image's range; mean and standard deviation are restored after it."""
    std, mean = torch.std_mean(image)
    low, high = torch.aminmax(image)
    span = high - low
    bent = (image - low).div_(span.clamp(min=TINY)).pow_(values[0]).mul_(span).add_(low)
    std_bent, mean_bent = torch.std_mean(bent)
    return bent.sub_(mean_bent).mul_(std / std_bent.clamp(min=TINY)).add_(mean)


def change_gamma_inverted(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """``change_gamma`` of the negative image."""
    return change_gamma(-image, values, seed).neg_()


def blur(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Gaussian blur; the values are standard deviations in voxels per axis."""
    for axis, sigma in enumerate(values):
        image = _along_axis(image, axis, gaussian_matrix(image.shape[axis], sigma))
    return image


def lower_resolution(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Nearest-neighbour shrinking by the given scale and linear enlarging back, along every axis."""
    return _lower_resolution(image, values[0], range(image.ndim))


def lower_resolution_in_slices(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """``lower_resolution`` that leaves the first axis alone."""
    return _lower_resolution(image, values[0], range(1, image.ndim))


def _lower_resolution(image: Tensor, scale: float, axes: range) -> Tensor:
    for axis in axes:
        image = _along_axis(image, axis, low_resolution_matrix(image.shape[axis], scale))
    return image


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


def _along_axis(image: Tensor, axis: int, matrix: npt.NDArray[np.float64]) -> Tensor:
    """Applies a matrix along an axis of (*space)."""
    weights = torch.from_numpy(matrix).to(image.device, image.dtype)
    along: Tensor = torch.tensordot(weights, image, ([1], [axis]))
    return along.movedim(0, axis)


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
