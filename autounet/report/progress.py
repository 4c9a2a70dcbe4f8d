"""Training curves: losses, online Dice, learning rate and time of every epoch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autounet.colours import INK, MUTED, class_colours
from autounet.report.canvas import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROGRESS_SIZE_IN = (13.5, 4.2)

NAMED_CLASSES = 8
"""With more classes than this, curves of classes are drawn in grey and not named."""


def progress_figure(history: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Draws training curves as a PNG: losses, online Dice, learning rate and time.

    Args:
        history: One row per epoch with ``epoch`` (from 0), ``train_loss``, ``validation_loss``, ``dice`` (class → online
            Dice), ``mean_dice``, ``ema_dice``, ``learning_rate``, ``seconds``, ``data_wait_share``, ``left_out``. A value that is
            missing, None or not finite leaves a gap.
        path: File to write (1620 x 504 pixels).
        title: Line above the panels.

    Raises:
        ArtefactError: The file cannot be written.
    """
    figure = new_figure(PROGRESS_SIZE_IN, constrained=True)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.01, ha="left")
    losses, dice, schedule = figure.subplots(1, 3, gridspec_kw={"width_ratios": (1, 1.25, 1)})
    epochs = [int(row["epoch"]) + 1 for row in history]  # people count from 1, as the terminal does
    _draw_losses(losses, epochs, history)
    _draw_dice(dice, epochs, history)
    _draw_schedule(schedule, epochs, history)
    save(figure, path)


def _draw_losses(axes: "Axes", epochs: Sequence[int], history: Sequence[Mapping[str, Any]]) -> None:
    _decorate(axes, "Loss", epochs)
    _curve(axes, epochs, _column(history, "train_loss"), color="#0072B2", label="training")
    _curve(axes, epochs, _column(history, "validation_loss"), color="#D55E00", label="validation")
    _legend(axes, "upper right")


def _draw_dice(axes: "Axes", epochs: Sequence[int], history: Sequence[Mapping[str, Any]]) -> None:
    _decorate(axes, "Online Dice", epochs)
    names = list(dict.fromkeys(name for row in history for name in row.get("dice") or ()))
    named = len(names) <= NAMED_CLASSES
    for name, colour in zip(names, class_colours(len(names)), strict=True):
        values = [_number((row.get("dice") or {}).get(name)) for row in history]
        label = name if named else "each class" if name == names[0] else "_hidden"
        _curve(axes, epochs, values, color=colour if named else "#BBBBBB", label=label, linewidth=1.1 if named else 0.4)
    _curve(axes, epochs, _column(history, "mean_dice"), color=MUTED, label="mean", linewidth=1.6, linestyle=(0, (4, 2)))
    smooth = _column(history, "ema_dice")
    _curve(axes, epochs, smooth, color=INK, label="mean, smoothed", linewidth=2.2)
    best = best_epoch(history)
    if best is not None:
        at, value = epochs[best], smooth[best]
        axes.plot([at], [value], "o", color=INK, markersize=8, markerfacecolor="white", markeredgewidth=2, zorder=5)
        axes.set_title(f"best smoothed mean {value:.3f}, epoch {at}", fontsize=9.5, color=INK, loc="right")
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    # Where the curves end low, the legend goes above them.
    ends_low = any(value < 0.5 for value in _column(history, "mean_dice")[-1:])
    _legend(axes, "upper right" if ends_low else "lower right", columns=2 if len(names) > 4 and named else 1)


def _draw_schedule(axes: "Axes", epochs: Sequence[int], history: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter

    _decorate(axes, "Learning rate and time", epochs)
    _curve(axes, epochs, _column(history, "learning_rate"), color="#0072B2", label="learning rate")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="y", colors="#0072B2")
    axes.set_ylabel("learning rate", color="#0072B2", fontsize=9.5)
    seconds = axes.twinx()
    _curve(seconds, epochs, _column(history, "seconds"), color="#009E73", label="seconds per epoch")
    seconds.set_ylim(0, 1.15 * max([value for value in _column(history, "seconds") if math.isfinite(value)], default=1.0) or 1.0)
    seconds.tick_params(axis="y", colors="#009E73", labelsize=9, length=3)
    seconds.set_ylabel("seconds per epoch", color="#009E73", fontsize=9.5)
    seconds.spines[["top", "left", "bottom", "right"]].set_visible(False)
    axes.set_title(_speed(history), fontsize=9.5, color=INK, loc="right")


def _speed(history: Sequence[Mapping[str, Any]]) -> str:
    """What cost time or steps, in a few words; empty for histories that do not say."""
    waits = [value for value in _column(history, "data_wait_share") if math.isfinite(value)]
    left_out = sum(int(row.get("left_out") or 0) for row in history)
    words = [f"{sum(waits) / len(waits):.0%} waiting for data"] if waits else []
    return ", ".join([*words, f"{left_out} steps left out"] if left_out else words)


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Position of the row with the highest smoothed Dice (the first of several); None when no row has one."""
    values = _column(history, "ema_dice")
    defined = [position for position, value in enumerate(values) if math.isfinite(value)]
    return max(defined, key=lambda position: values[position]) if defined else None


def _curve(axes: "Axes", epochs: Sequence[int], values: Sequence[float], **style: Any) -> None:
    # A lone epoch has no line: show it, and short runs, as dots.
    axes.plot(epochs, values, marker="o" if len(epochs) <= 12 else None, markersize=3.5, **{"linewidth": 1.8, **style})


def _decorate(axes: "Axes", title: str, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel("epoch", fontsize=9.5, color=MUTED)
    axes.grid(True, color="#E8E8E8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#BBBBBB")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=(1, 2, 5, 10), min_n_ticks=1))
    first, last = (min(epochs), max(epochs)) if epochs else (0, 1)
    margin = max(0.5, 0.02 * (last - first))
    axes.set_xlim(first - margin, last + margin)


def _legend(axes: "Axes", place: Literal["upper right", "lower right"], columns: int = 1) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=place, fontsize=8.5, ncols=columns, frameon=True, framealpha=0.85, edgecolor="none", handlelength=1.6)


def _column(history: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [_number(row.get(key)) for row in history]


def _number(value: Any) -> float:
    """A float to draw; what cannot be drawn is a gap (NaN)."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan
