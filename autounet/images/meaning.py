"""What the values of a label map stand for, as formats that can say it write it down: names, colours, and which model made them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.artefact import Frozen
from autounet.colours import class_colours
from autounet.labels import IntArray, LabelSpec


class Structure(Frozen):
    """One structure of a label map."""

    name: str
    value: int
    """Written for it."""
    values: tuple[int, ...]
    """That belong to it: more than one where other structures lie inside it."""
    colour: str
    """``#RRGGBB``."""

    def mask(self, labels: IntArray) -> npt.NDArray[np.bool_]:
        """Where a label map of any shape shows it."""
        return np.asarray(labels == self.values[0]) if len(self.values) == 1 else np.isin(labels, self.values)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return red, green, blue


class Meaning(Frozen):
    """All structures of a label map, in an order in which painting one over the other makes the label map."""

    structures: tuple[Structure, ...]
    model: str = ""
    """Digest of what predicted it; empty where it is not known."""
    dataset: str = ""
    """That the model has learnt from."""

    @property
    def overlapping(self) -> bool:
        """Whether a voxel can belong to several structures."""
        return any(len(entry.values) > 1 for entry in self.structures)


def meaning_of(labels: LabelSpec, model: str = "", dataset: str = "") -> Meaning:
    """What a model's label maps mean: its classes.

    Overlapping regions stay whole, as they are scored: one structure holds the values of all that is painted over it. Where painting
    regions in their order would not make the label map again, each value is a structure of its own.
    """
    colours = class_colours(len(labels.classes))
    painted = labels.paint_order if labels.overlapping else [entry.values[0] for entry in labels.classes]
    structures = tuple(
        Structure(name=entry.name, value=value, values=entry.values, colour=colour)
        for entry, value, colour in zip(labels.classes, painted, colours, strict=True)
    )
    repaints = all(
        entry.value in entry.values and not any(entry.value in later.values for later in structures[place + 1 :])
        for place, entry in enumerate(structures)
    )
    if not repaints or set(labels.foreground_values) != {entry.value for entry in structures}:
        return meaning_of_values(labels.foreground_values).model_copy(update={"model": model, "dataset": dataset})
    return Meaning(structures=structures, model=model, dataset=dataset)


def meaning_of_values(values: Iterable[Any]) -> Meaning:
    """What a label map means of which nothing is known: every value but 0 is a structure named after it."""
    numbers = sorted({int(value) for value in values} - {0})
    entries = zip(numbers, class_colours(len(numbers)), strict=True)
    return Meaning(structures=tuple(Structure(name=f"label {number}", value=number, values=(number,), colour=c) for number, c in entries))
