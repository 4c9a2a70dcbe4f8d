"""The U-Net of a configuration as a drawing: what goes in, every stage with its maps and strides, the skips, what comes out."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from autounet.colours import INK, MUTED
from autounet.networks.cost import multiply_adds, parameters
from autounet.plan import Configuration
from autounet.planners.words import count, large
from autounet.report.canvas import new_figure, save, save_vector
from autounet.report.network_layout import (
    BAR_GAP,
    HEAD_ARROW,
    HEAD_WIDTH,
    LABEL_GAP,
    Bar,
    Group,
    Role,
    bar_height,
    decoder_groups,
    encoder_groups,
    is_other_kernel,
    spacings_mm,
    text_width,
    times,
)
from autounet.report.network_page import DOWN, LINE, LOOKS, NARROWEST, NUMBER_PT, OUT, SIZE_PT, SKIP, SMALL_PT, UP, Line, Page, Symbol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def network_figure(configuration: Configuration, path: Path, title: str) -> None:
    """Draws the U-Net of a configuration, as an SVG and as a PNG beside it.

    The height of a box grows with the size of its feature maps, its width with their number; one box is one convolution, or one
    residual block. Text in the SVG stays text.

    Args:
        configuration: What to draw.
        path: File to write; whatever its ending, ``.svg`` and ``.png`` are written.
        title: Line above the drawing.

    Raises:
        ArtefactError: A file cannot be written.
        ValueError: The patch does not fit a network without padding.
    """
    figure = draw_network(configuration, title)
    save_vector(figure, path.with_suffix(".svg"))
    save(figure, path.with_suffix(".png"))


def draw_network(configuration: Configuration, title: str) -> "Figure":
    """The figure itself, not saved."""
    figure = new_figure((NARROWEST, NARROWEST))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    page = Page(axes)
    encoder = encoder_groups(configuration.network, configuration.patch_size)
    decoder = decoder_groups(configuration.network, encoder)
    _draw_input(page, configuration, encoder[0])
    _draw_encoder(page, configuration, encoder)
    _draw_decoder(page, configuration, encoder, decoder)
    _draw_heads(page, configuration, decoder)
    width, height = page.frame(title, _note(configuration), _legend(configuration))
    figure.set_size_inches(width, height)
    return figure


def _draw_encoder(page: Page, configuration: Configuration, groups: Sequence[Group]) -> None:
    spec = configuration.network
    for group in groups:
        for bar in group.bars:
            page.bar(bar, group.y)
        for bar, following in pairwise(group.bars):
            if following.x - bar.right > 2 * BAR_GAP:
                page.arrow((bar.right, group.y), (following.x, group.y), LOOKS["encoder"][1])
        lines, x = _encoder_lines(configuration, group.level, group.size), group.left - LABEL_GAP
        if group.level:
            page.lines(x, group.y, lines, "right")
            continue
        # The arrow from the input runs between the lines.
        page.lines(x, group.y + LINE * 0.75, lines[:1], "right")
        page.lines(x, group.y - LINE * (len(lines) / 2 - 0.25), lines[1:], "right")
        page.say((group.left + group.right) / 2, group.top + 0.12, str(group.features), NUMBER_PT, INK, bold=True)
    for above, below in pairwise(groups):
        page.arrow((above.way_out, above.bottom), (above.way_out, below.top), DOWN)
        page.say(above.way_out - 0.07, (above.bottom + below.top) / 2, times(spec.strides[below.level]), SMALL_PT, DOWN, "right")
        if below is groups[-1]:  # between the arrow that comes and the one that goes
            page.say((below.left + below.right) / 2, below.top + 0.12, str(below.features), NUMBER_PT, INK, bold=True)
        else:
            page.say(below.way_in + 0.07, below.top + 0.12, str(below.features), NUMBER_PT, INK, "left", bold=True)


def _draw_decoder(page: Page, configuration: Configuration, encoder: Sequence[Group], groups: Sequence[Group]) -> None:
    spec = configuration.network
    for group, below in zip(groups, (*groups[1:], encoder[-1]), strict=True):
        for bar in group.bars:
            page.bar(bar, group.y)
        source, start = encoder[group.level], below.top
        page.arrow((source.right, group.y), (group.left, group.y), SKIP)
        if source.size != group.raised:
            page.say((source.right + group.left) / 2, group.y + 0.1, f"crop to {times(group.raised)}", SMALL_PT, MUTED)
        end = group.y - group.bars[1].height / 2
        page.arrow((group.way_in, start), (group.way_in, end), UP)
        page.say(group.way_in + 0.07, (start + group.bottom) / 2, times(spec.strides[below.level]), SMALL_PT, UP, "left")
        number_x = (group.bars[2].x + group.right) / 2 if group.level == 0 else group.way_out - 0.07
        page.say(number_x, group.top + 0.12, str(group.features), NUMBER_PT, INK, "right" if group.level else "center", bold=True)


def _draw_heads(page: Page, configuration: Configuration, groups: Sequence[Group]) -> None:
    spec = configuration.network
    for group, convolutions in zip(groups, reversed(spec.blocks_decoder), strict=True):
        x, height = group.right, group.bars[-1].height
        lines = [(times(group.size), SIZE_PT, INK), (_layers(configuration, group.level, convolutions, "conv"), SMALL_PT, MUTED)]
        if spec.kind == "unet2015" and group.level:
            page.lines(x + LABEL_GAP, group.y, lines, "left")
            continue
        idle = group.level > 0 and group.level == len(groups) - 1
        page.arrow((x, group.y), (x + HEAD_ARROW, group.y), OUT)
        page.bar(Bar(x + HEAD_ARROW, HEAD_WIDTH, height, "idle head" if idle else "head"), group.y)
        if group.level == 0:
            lines.insert(0, (count(spec.outputs, "output"), SIZE_PT, INK))
        if len(groups) > 1 and spec.kind != "unet2015":
            weight = "0" if idle else "1" if group.level == 0 else f"1/{2**group.level}"
            lines.append((f"loss × {weight}", SMALL_PT, MUTED))
        page.lines(x + HEAD_ARROW + HEAD_WIDTH + LABEL_GAP, group.y, lines, "left")


def _draw_input(page: Page, configuration: Configuration, first: Group) -> None:
    spec = configuration.network
    left = first.left - LABEL_GAP - max(text_width(text, size) for text, size, _ in _encoder_lines(configuration, 0, first.size)) - 0.2
    channels = len(configuration.normalization) if configuration.previous_stage else spec.in_channels
    labels = spec.in_channels - channels
    roles: list[Role] = ["labels", "input"] if labels else ["input"]
    for number, role in enumerate(roles, start=1):
        x = left - number * HEAD_WIDTH - (number - 1) * BAR_GAP
        page.bar(Bar(x, HEAD_WIDTH, bar_height(configuration.patch_size), role), first.y)
    page.arrow((left, first.y), (first.left, first.y), SKIP)
    lines = [(count(channels, "channel"), SIZE_PT, INK)]
    if labels:
        lines += [(f"+ {count(labels, 'label map')}", SIZE_PT, INK), (f"of {configuration.previous_stage}", SIZE_PT, INK)]
    page.lines(x - LABEL_GAP, first.y, [*lines, (times(configuration.patch_size), SIZE_PT, INK)], "right")


def _encoder_lines(configuration: Configuration, level: int, size: Sequence[int]) -> list[Line]:
    """What stands beside a stage of the encoder."""
    spec, spacings = configuration.network, spacings_mm(configuration)
    lines: list[Line] = [(times(size), SIZE_PT, INK)]
    if spacings:
        lines.append((f"{times(spacings[level])} mm", SMALL_PT, MUTED))
    layers = _layers(configuration, level, spec.blocks_encoder[level], "block" if spec.kind == "residual" else "conv")
    return [*lines, (layers, SMALL_PT, MUTED)]


def _layers(configuration: Configuration, level: int, number: int, noun: str) -> str:
    """``2 convs``, ``3 blocks, 1×3×3``."""
    kernel = configuration.network.kernel_sizes[level]
    return count(number, noun) + (f", {times(kernel)}" if is_other_kernel(kernel) else "")


def _note(configuration: Configuration) -> str:
    spec = configuration.network
    kind = {"plain": "Plain U-Net", "residual": "U-Net with residual encoder", "unet2015": "U-Net of 2015 without padding"}[spec.kind]
    return (
        f"{kind} · {count(len(spec.features), 'stage')} · {large(parameters(spec))} parameters · "
        f"{large(multiply_adds(spec, configuration.patch_size))} multiply-adds per patch · batch size {configuration.batch_size}"
    )


def _legend(configuration: Configuration) -> list[tuple[Symbol, str]]:
    spec = configuration.network
    kernel = times((3,) * spec.ndim)
    body = f"{kernel} convolution, ReLU" if spec.kind == "unet2015" else f"{kernel} convolution, instance norm, leaky ReLU"
    entries: list[tuple[Symbol, str]] = [("encoder", body), ("decoder", "the same, in the decoder")]
    if spec.kind == "residual":
        entries = [("stem", "first convolution"), ("encoder", f"residual block of two {kernel} convolutions"), ("decoder", body)]
    if any(is_other_kernel(entry) for entry in spec.kernel_sizes):
        entries.append(("encoder other", "with another kernel, as named"))
    entries.append(("copy", "copied from the encoder"))
    entries.append(("up", "raised from below, joined to the copy"))
    entries.append((DOWN, "max pooling" if spec.kind == "unet2015" else "stride of the next convolution"))
    entries.append((UP, "transposed convolution"))
    entries.append((SKIP, "skip connection, cropped" if spec.kind == "unet2015" else "skip connection"))
    entries.append(("head", f"{times((1,) * spec.ndim)} convolution to the outputs"))
    if spec.kind != "unet2015" and len(spec.features) > 2:
        entries.append(("idle head", "outputs without weight in the loss"))
    if configuration.previous_stage:
        entries.append(("labels", "label maps of the previous stage"))
    return entries
