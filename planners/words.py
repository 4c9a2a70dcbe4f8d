"""Numbers as people read them, for the reasons in a plan."""

import math
from collections.abc import Sequence

AXES = ("axis 0 (z)", "axis 1 (y)", "axis 2 (x)")
"""The axes of an image as it was read, by name."""


def times(values: Sequence[float]) -> str:
    """Sizes: ``40×56×40``."""
    return "×".join(_plain(value) for value in values)


def _plain(value: float) -> str:
    """A whole number with all its digits, unless there are very many; others with six."""
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else f"{min(max(value, -1e300), 1e300):g}"


def mm(values: Sequence[float]) -> str:
    """Spacings: ``5×1.5625×1.5625 mm``."""
    return f"{times([float(f'{value:.5g}') for value in values])} mm"


def percent(part: float) -> str:
    """A fraction as percent: ``23 %``, ``0.4 %``; never a rounded 0 or 100 that is not one."""
    value = 100 * part
    if value >= 1 or value == 0:
        return f"{value:.3g} %" if 99 < value < 100 else f"{value:.0f} %"
    return f"{value:.1g} %"


def at_least(value: float) -> str:
    """A positive number with three digits, rounded up, so that what needs it is safe: ``7.69`` for 7.6812."""
    digits = 2 - math.floor(math.log10(value))
    step = 10.0**digits
    return f"{math.ceil(value * step * (1 - 1e-12)) / step:.12g}"


def large(number: float) -> str:
    """A count of any size: ``768``, ``19.1 billion``, ``138 trillion``."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:,.0f} {name}" if number >= 100 * unit else f"{number / unit:.3g} {name}"
    return f"{number:,.0f}"


def count(number: int, noun: str) -> str:
    """``1 image``, ``260 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
