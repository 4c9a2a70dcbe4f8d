"""What is unusual among many numbers, when some of them may be wrong."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FEWEST = 8
"""Among fewer numbers nothing is called unusual: there is no telling what is usual."""

SPREADS = 6.0
"""An outlier is farther from the median than so many robust standard deviations. Of normally distributed numbers one in 500 million
is; real ones have heavier tails, so each check also asks for a difference that matters by itself."""


def deviations(values: Sequence[float] | Floats, least: float) -> Floats:
    """How far each number is from the median, signed, for those that are outliers; 0 for all others.

    Args:
        values: Numbers on a scale on which differences mean the same everywhere: logarithms of sizes, for instance.
        least: Smaller differences do not matter, however alike the other numbers are.

    Returns:
        Same length. All 0 where there are fewer than ``FEWEST`` numbers.
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) < FEWEST:
        return np.zeros(len(numbers))
    away = numbers - np.median(numbers)
    # 1.4826: for normally distributed numbers, the median distance from the median times this is the standard deviation.
    spread = 1.4826 * float(np.median(np.abs(away)))
    return np.where(np.abs(away) > max(least, SPREADS * spread), away, 0.0)


def is_unusual(flags: Sequence[bool], share: float) -> bool:
    """Whether so few cases are flagged that this is unusual: at least one, and no more than ``share`` of ``FEWEST`` cases or more.

    One flagged case of ``FEWEST`` or more is unusual whatever the share.
    """
    flagged = sum(flags)
    return len(flags) >= FEWEST and 0 < flagged <= max(1.0, share * len(flags))
