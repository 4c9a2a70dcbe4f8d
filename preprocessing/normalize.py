"""Intensity normalisation, one scheme per channel. Source: nnunetv2 2.8.1, ``default_normalization_schemes.py``."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from autounet.plan import Normalization

Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

TINY = 1e-8
"""Smallest standard deviation or range that is divided by: a constant image becomes zeros, not NaN."""


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
    count = channel.size if mask is None else int(np.count_nonzero(mask))
    if not count:
        return  # an all-zero image has no inside
    where: Mask | bool = True if mask is None else mask
    mean = float(channel.sum(dtype=np.float64, where=where)) / count
    # Plane by plane: the squares of a whole volume in float64 would take twice its memory.
    inside = [True] * len(channel) if mask is None else mask
    squares = (np.square(np.subtract(plane, mean, dtype=np.float64)) for plane in channel)
    variance = sum(float(plane.sum(where=part)) for plane, part in zip(squares, inside, strict=True)) / count
    np.subtract(channel, mean, out=channel, where=where)
    np.divide(channel, max(variance**0.5, TINY), out=channel, where=where)


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
