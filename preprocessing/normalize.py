"""Intensity normalisation, one scheme per channel. Source: nnunetv2 2.8.1, ``default_normalization_schemes.py``."""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from autounet.plan import Normalization

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

TINY = 1e-8
"""Smallest standard deviation or range that is divided by: a constant image becomes zeros, not NaN."""

AT_ONCE = 2**16
"""Voxels in float64 at a time: half a megabyte."""


def normalize(image_czyx: Volume, schemes: tuple[Normalization, ...], mask_zyx: Mask | None) -> Volume:
    """Normalises every channel, in place, and returns the array.

    Args:
        image_czyx: float32, one channel per scheme.
        schemes: From the plan.
        mask_zyx: True inside the nonzero region; needed where a scheme says ``use_mask``.
    """
    for channel, scheme in zip(image_czyx, schemes, strict=True):
        SCHEMES[scheme.scheme](channel, scheme, mask_zyx if scheme.use_mask else None)
    return image_czyx


def _zscore(channel: Volume, scheme: Normalization, mask: Mask | None) -> None:
    inside = True if mask is None else mask
    mean, std = mean_and_std(channel, mask)
    np.subtract(channel, mean, out=channel, where=inside)
    np.divide(channel, max(std, TINY), out=channel, where=inside)


def mean_and_std(channel: Volume, mask: Mask | None) -> tuple[float, float]:
    """Mean and standard deviation in float64, of a few planes at a time: no copy of the volume. 0 and 0 where the mask is empty."""
    count = channel.size if mask is None else int(mask.sum())

    step = max(1, AT_ONCE // channel[0].size)

    def parts() -> Iterable[Volume]:
        for start in range(0, len(channel), step):
            part = channel[start : start + step]
            yield part if mask is None else part[mask[start : start + step]]

    mean = sum(float(part.sum(dtype=np.float64)) for part in parts()) / max(count, 1)
    squares = sum(float(np.square(np.subtract(part, mean, dtype=np.float64)).sum()) for part in parts())
    return mean, float(np.sqrt(squares / max(count, 1)))


def _ct(channel: Volume, scheme: Normalization, mask: Mask | None) -> None:
    np.clip(channel, scheme.lower, scheme.upper, out=channel)
    channel -= scheme.mean
    channel /= max(scheme.std, TINY)


def _rescale(channel: Volume, scheme: Normalization, mask: Mask | None) -> None:
    low = channel.min()
    channel -= low
    channel /= max(float(channel.max()), TINY)


def _rgb(channel: Volume, scheme: Normalization, mask: Mask | None) -> None:
    channel /= 255.0


def _none(channel: Volume, scheme: Normalization, mask: Mask | None) -> None:
    """Leaves the channel as it is."""


SCHEMES: dict[str, Callable[[Volume, Normalization, Mask | None], None]] = {
    "zscore": _zscore,
    "ct": _ct,
    "rescale": _rescale,
    "rgb": _rgb,
    "none": _none,
}
