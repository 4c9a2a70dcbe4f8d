"""Changes of intensity. Each transform draws values for (sample, channel) pairs, then changes these images one after the other.

Source of the functions: batchgeneratorsv2 0.3.6. Probabilities and ranges are in ``policy``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

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


class Values(Protocol):
    """How the numbers of a change are drawn."""

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """Numbers for one image of ``ndim`` axes; ``within_slices``: whose slices are thick."""


@dataclass(frozen=True, slots=True)
class Uniform:
    """One number, or one for each axis."""

    low: float
    high: float
    per_axis: bool = False

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """See Values."""
        return [float(value) for value in rng.uniform(self.low, self.high, ndim if self.per_axis else 1)]


@dataclass(frozen=True, slots=True)
class AboutOne:
    """Half of the draws below 1, half above, whatever the widths of the two ranges."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """See Values."""
        return [float(rng.uniform(self.low, 1) if rng.random() < 0.5 else rng.uniform(1, self.high))]


@dataclass(frozen=True, slots=True)
class Resolution:
    """One scale for every axis; across thick slices 1."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """See Values."""
        scale = float(rng.uniform(self.low, self.high))
        return [1.0 if within_slices and axis == 0 else scale for axis in range(ndim)]


@dataclass(frozen=True, slots=True)
class Normal:
    """One number about 0."""

    std: float

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """See Values."""
        return [float(rng.normal(0, self.std))]


@dataclass(frozen=True, slots=True)
class Bump:
    """Height (of either sign) and, for each axis, centre and width of a Gaussian bump in parts of the image's side."""

    low: float
    high: float
    centre: tuple[float, float] = (-0.5, 1.5)
    width: tuple[float, float] = (1 / 6, 1.0)
    """The logarithm is uniform."""

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """See Values."""
        height = rng.uniform(self.low, self.high) * (1 if rng.random() < 0.5 else -1)
        widths = np.exp(rng.uniform(math.log(self.width[0]), math.log(self.width[1]), ndim))
        return [float(height), *rng.uniform(*self.centre, ndim).tolist(), *widths.tolist()]


@dataclass(frozen=True, slots=True)
class Boxes:
    """How many boxes, and for each of the most there may be: where in the range of sides, and of places, it lies along each axis."""

    most: int

    def draw(self, rng: np.random.Generator, ndim: int, within_slices: bool) -> list[float]:
        """See Values."""
        return [float(rng.integers(1, self.most + 1)), *rng.random(self.most * 2 * ndim).tolist()]


@dataclass(frozen=True, slots=True)
class IntensityTransform:
    """One kind of change.

    Attributes:
        name: For messages and tests.
        probability: Per sample.
        channel_probability: Per channel of a chosen sample.
        values: The m numbers of one image.
        change: What is done to an image.
        shared: All channels of a sample get the same values.
    """

    name: str
    probability: float
    channel_probability: float
    values: Values
    change: Change
    shared: bool = False

    def draw(self, rng: np.random.Generator, samples: int, channels: int, ndim: int, within_slices: bool) -> IntensityDraw:
        """Draws which images change and by what."""
        rows: list[tuple[int, int, list[float]]] = []
        for sample in range(samples):
            if rng.random() >= self.probability:
                continue
            value = self.values.draw(rng, ndim, within_slices)
            for channel in range(channels):
                if self.channel_probability < 1 and rng.random() >= self.channel_probability:
                    continue
                rows.append((sample, channel, value))
                if not self.shared:
                    value = self.values.draw(rng, ndim, within_slices)
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


def add_noise(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Gaussian noise of the given standard deviation."""
    generator = torch.Generator(image.device).manual_seed(seed)
    noise = torch.randn(image.shape, generator=generator, device=image.device, dtype=image.dtype)
    return noise.mul_(values[0]).add_(image)


def scale_brightness(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Multiplies by the given factor."""
    return image * values[0]


def add_brightness(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Adds the given number."""
    return image + values[0]


def stretch_contrast(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Stretches about the mean by the given factor."""
    mean = image.mean()
    return (image - mean).mul_(values[0]).add_(mean)


def scale_contrast(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """``stretch_contrast`` kept within the image's own range."""
    return stretch_contrast(image, values, seed).clamp_(*torch.aminmax(image))


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
    """Nearest-neighbour shrinking by the given scales, one for each axis, and linear enlarging back."""
    for axis, scale in enumerate(values):
        if scale != 1:
            image = _along_axis(image, axis, low_resolution_matrix(image.shape[axis], scale))
    return image


def add_bump(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Adds a Gaussian bump that is 0 where it is lowest within the image; see Bump."""
    height, bump = values[0], torch.ones((), device=image.device, dtype=image.dtype)
    for axis, side in enumerate(image.shape):
        at = (torch.arange(side, device=image.device, dtype=image.dtype) + 0.5) / side
        profile = (-0.5 * ((at - values[1 + axis]) / values[1 + image.ndim + axis]) ** 2).exp()
        bump = bump[..., None] * profile
    low, high = torch.aminmax(bump)
    return image + (bump - low).mul_(height / (high - low).clamp(min=TINY))


BOX_SIDES = (10, 3)
"""Boxes have from a tenth to a third of the image's side."""


def blank_boxes(image: Tensor, values: Sequence[float], seed: int) -> Tensor:
    """Puts its own mean in place of each box; see Boxes."""
    ndim, changed = image.ndim, image.clone()
    for number in range(int(values[0])):
        first = 1 + 2 * ndim * number
        sides, places = values[first : first + ndim], values[first + ndim : first + 2 * ndim]
        box: list[slice] = []
        for whole, in_sides, in_places in zip(image.shape, sides, places, strict=True):
            least, most = max(1, whole // BOX_SIDES[0]), max(1, whole // BOX_SIDES[1] - 1)
            side = least + int(in_sides * (most - least + 1)) if most > least else least
            start = int(in_places * (whole - side + 1))
            box.append(slice(start, start + side))
        changed[tuple(box)] = changed[tuple(box)].mean()
    return changed


def gaussian_matrix(size: int, sigma: float) -> npt.NDArray[np.float64]:
    """Blur along an axis of ``size`` voxels as a matrix; the signal is mirrored at its ends.

    The kernel has the odd number of voxels that is nearest to 6 sigma + 1/2: it ends at two to three standard deviations.
    """
    radius = round((6 * sigma + 0.5 - 1) / 2)
    offsets = np.arange(-radius, radius + 1)
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
    weights = torch.from_numpy(matrix).to(image.device, image.dtype, non_blocking=image.is_cuda)
    along: Tensor = torch.tensordot(weights, image, ([1], [axis]))
    return along.movedim(0, axis)
