"""Where everything of a drawn U-Net stands: boxes, arrows and texts in inches. Pure geometry; ``network.py`` puts it on paper.

x grows to the right, y upwards; the finest stage is at y = 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, prod
from typing import Literal

from autounet.networks.cost import stage_sizes
from autounet.plan import Configuration, NetworkSpec

Role = Literal["stem", "encoder", "encoder other", "copy", "up", "decoder", "decoder other", "head", "idle head", "input", "labels"]
"""What a box stands for; ``other`` where a kernel is not 3 along every axis."""

BAR_GAP, ROW_GAP, LABEL_GAP = 0.025, 0.38, 0.08
PORT = 0.07
"""Arrows between stages start and end this far inside the outer edges of a group."""
SHORTEST_SKIP, CROPPED_SKIP = 0.7, 1.0
"""The lowest skip connection; longer where it says to what it is cropped."""
HEAD_WIDTH, HEAD_ARROW = 0.07, 0.24
WIDEST_GROUP, NARROWEST_GROUP = 0.62, 0.17


@dataclass(frozen=True, slots=True)
class Bar:
    """A box: one layer or block, or a map that is copied."""

    x: float
    """Left edge."""
    width: float
    height: float
    role: Role

    @property
    def right(self) -> float:
        """Right edge."""
        return self.x + self.width

    @property
    def middle(self) -> float:
        """Halfway between the edges."""
        return self.x + self.width / 2


@dataclass(frozen=True, slots=True)
class Group:
    """The boxes of one stage of the encoder or decoder."""

    level: int
    y: float
    """Of the middle."""
    bars: tuple[Bar, ...]
    features: int
    size: tuple[int, ...]
    """Voxels of the maps it puts out."""
    raised: tuple[int, ...] = ()
    """Decoder: voxels of the maps that are joined, before its convolutions."""

    @property
    def left(self) -> float:
        """Left edge of the first box."""
        return self.bars[0].x

    @property
    def right(self) -> float:
        """Right edge of the last box."""
        return self.bars[-1].right

    @property
    def top(self) -> float:
        """Upper edge."""
        return self.y + max(bar.height for bar in self.bars) / 2

    @property
    def bottom(self) -> float:
        """Lower edge."""
        return self.y - max(bar.height for bar in self.bars) / 2

    @property
    def way_in(self) -> float:
        """Where the arrow enters that leads into it, from above or below: x."""
        return next((bar.middle for bar in self.bars if bar.role == "up"), self.left + PORT)

    @property
    def way_out(self) -> float:
        """Where the arrow to the next stage begins: x."""
        return self.right - PORT


def times(values: Sequence[float]) -> str:
    """``40×56×40``; spacings with three digits."""
    return "×".join(f"{value:d}" if isinstance(value, int) else f"{value:.3g}" for value in values)


def text_width(text: str, size_pt: float) -> float:
    """Inches of a text in DejaVu Sans or a narrower face, a little too much rather than too little."""
    em = sum({"×": 0.84, " ": 0.33, "m": 0.98, "i": 0.3, "l": 0.3, ",": 0.33, ".": 0.33}.get(letter, 0.64) for letter in text)
    return em * size_pt / 72


def spacings_mm(configuration: Configuration) -> tuple[tuple[float, ...], ...]:
    """Spacing of the feature maps of every stage, in mm; empty for planar images that only count pixels."""
    spacing = tuple(float(value) for value in configuration.spacing_mm)
    if configuration.ndim == 2 and set(spacing) == {1.0}:
        return ()
    found = []
    for stride in configuration.network.strides:
        spacing = tuple(value * step for value, step in zip(spacing, stride, strict=True))
        found.append(spacing)
    return tuple(found)


def is_other_kernel(kernel: Sequence[int]) -> bool:
    """Whether a kernel is not 3 along every axis, so that it has to be named."""
    return set(kernel) != {3}


def encoder_groups(spec: NetworkSpec, patch_size: Sequence[int]) -> tuple[Group, ...]:
    """The left side of the U and its bottom, finest first; the first box begins at x = 0."""
    groups: list[Group] = []
    for level, size in enumerate(stage_sizes(spec, patch_size)):
        height = bar_height(size)
        y = groups[-1].bottom - ROW_GAP - height / 2 if groups else 0.0
        left = groups[-1].way_out - PORT if groups else 0.0
        role: Role = "encoder other" if is_other_kernel(spec.kernel_sizes[level]) else "encoder"
        widths = _widths(spec.features[level], spec.blocks_encoder[level])
        if level == len(spec.features) - 1 and level:
            # The bottom of the U must be wide enough for what is above it: two stages and an arrow between them.
            skip = CROPPED_SKIP if spec.kind == "unet2015" else SHORTEST_SKIP
            bars = _spread(left, widths, 2 * PORT + skip + 1.5 * bar_width(spec.features[level - 1]) + BAR_GAP, height, role)
        else:
            bars = _row(left, widths, height, role)
        if level == 0 and spec.kind == "residual":
            stem = Bar(left, bar_width(spec.features[0]), height, "stem")
            bars = (stem, *_row(stem.right + BAR_GAP, widths, height, role))
        groups.append(Group(level, y, bars, spec.features[level], size))
    return tuple(groups)


def decoder_groups(spec: NetworkSpec, encoder: Sequence[Group]) -> tuple[Group, ...]:
    """The right side of the U, finest first."""
    below, groups = encoder[-1], []
    for position, convolutions in enumerate(spec.blocks_decoder):
        level = len(encoder) - 2 - position
        kernel, features, y = spec.kernel_sizes[level], spec.features[level], encoder[level].y
        raised = tuple(edge * step for edge, step in zip(below.size, spec.strides[level + 1], strict=True))
        size = raised
        if spec.kind == "unet2015":
            size = tuple(edge - convolutions * (width - 1) for edge, width in zip(raised, kernel, strict=True))
        one, height = bar_width(features), bar_height(raised)
        up = below.way_out - one / 2
        copy, joined = Bar(up - BAR_GAP - one, one, height, "copy"), Bar(up, one, height, "up")
        role: Role = "decoder other" if is_other_kernel(kernel) else "decoder"
        bars = _row(joined.right + BAR_GAP, _widths(features, convolutions), bar_height(size), role)
        below = Group(level, y, (copy, joined, *bars), features, size, raised)
        groups.append(below)
    return tuple(reversed(groups))


def bar_width(features: int) -> float:
    """Inches: 0.09 for 32 feature maps, and a little more for every doubling."""
    return max(0.05, 0.09 + 0.03 * log2(features / 32))


def bar_height(size: Sequence[int]) -> float:
    """Inches: 0.26 for two voxels along every axis, and a little more for every doubling of all edges."""
    return 0.18 + 0.085 * log2(max(2.0, prod(size) ** (1 / len(size))))


def _widths(features: int, number: int) -> tuple[float, ...]:
    """Widths of a stage's boxes: narrower where there are many."""
    one = min(bar_width(features), (WIDEST_GROUP + BAR_GAP) / number - BAR_GAP)
    return _stretched((one,) * number, NARROWEST_GROUP)


def _stretched(widths: tuple[float, ...], least: float) -> tuple[float, ...]:
    """The same boxes, made wider where they do not fill ``least`` inches."""
    gaps = BAR_GAP * (len(widths) - 1)
    factor = max(1.0, (least - gaps) / sum(widths))
    return tuple(width * factor for width in widths)


def _row(left: float, widths: Sequence[float], height: float, role: Role, gap: float = BAR_GAP) -> tuple[Bar, ...]:
    """Boxes side by side."""
    bars = []
    for width in widths:
        bars.append(Bar(left, width, height, role))
        left += width + gap
    return tuple(bars)


def _spread(left: float, widths: Sequence[float], room: float, height: float, role: Role) -> tuple[Bar, ...]:
    """Boxes that reach from end to end of ``room`` inches, with equal gaps; a lone box is made as wide."""
    if len(widths) == 1:
        return (Bar(left, max(room, widths[0]), height, role),)
    return _row(left, widths, height, role, max(BAR_GAP, (room - sum(widths)) / (len(widths) - 1)))
