"""Colours of classes and of errors, chosen so that people with colour-blindness can tell them apart."""

import colorsys

INK = "#1F2933"
MUTED = "#616E7C"

# After Okabe and Ito. The last two also mark errors, but those are drawn in a panel of their own.
FEW = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#8C510A", "#F0E442", "#56B4E9")

MISSED = "#D55E00"
"""In the truth alone."""
EXTRA = "#56B4E9"
"""In the prediction alone."""
CONFUSED = "#F0E442"
"""In both, as different classes."""
UNANNOTATED = "#9AA5B1"
"""Not to be scored."""


def class_colours(count: int) -> list[str]:
    """``count`` different colours (``#RRGGBB``): a colour-blind safe palette first, then hues spread by the golden ratio."""
    colours = list(FEW[:count])
    for number in range(count - len(colours)):
        # Three levels of lightness, so that neighbouring hues still differ.
        red, green, blue = colorsys.hls_to_rgb((0.13 + number * 0.618034) % 1, (0.45, 0.65, 0.32)[number % 3], 0.7)
        colours.append(f"#{round(red * 255):02X}{round(green * 255):02X}{round(blue * 255):02X}")
    return colours
