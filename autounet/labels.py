"""Labels: what the values of a label map mean, and how a network's outputs become label values again.

A label map holds raw *values* as the dataset's author chose them. Inside the pipeline a map holds *indices*:
0 is background, 1..n are the author's foreground values in ascending order, and n + 1 is the ignore label where there
is one. Values with gaps (0, 1, 5) therefore need no conversion by the user.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from autounet.artefact import Frozen
from autounet.errors import DatasetError

IntArray = npt.NDArray[Any]
"""An array of any integer type."""

LARGE_VALUE = 2**20
"""Label values from here on (atlases have such) are looked up by search: a table of all values would take too much memory."""


class StructureClass(Frozen):
    """One foreground structure that is predicted and scored."""

    name: str
    values: tuple[int, ...]
    """Label values that belong to it: one, or several for a region (which may overlap other regions)."""


class LabelSpec(Frozen):
    """The labels of a dataset.

    ``classes`` are in the order of the network's foreground outputs. With ``overlapping`` each class is a region with an
    output of its own (sigmoid); otherwise outputs are background and the classes (softmax).
    """

    classes: tuple[StructureClass, ...]
    overlapping: bool = False
    ignore_value: int | None = None
    """Voxels of this value are not annotated."""
    paint_order: tuple[int, ...] = ()
    """Regions only: the label value written for each class, later ones over earlier ones (nnU-Net: regions_class_order)."""
    background_name: str = "background"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.classes:
            raise ValueError("labels: no foreground class")
        names = [entry.name for entry in self.classes]
        if len(set(names)) != len(names):
            raise ValueError("labels: two classes have the same name")
        if any(not entry.values or min(entry.values) < 1 for entry in self.classes):
            raise ValueError("labels: every foreground value must be a positive integer (0 is background)")
        if self.overlapping and len(self.paint_order) != len(self.classes):
            raise ValueError(f"regions_class_order: {len(self.paint_order)} entries for {len(self.classes)} regions")
        if not self.overlapping and len(self.foreground_values) != len(self.classes):
            raise ValueError("labels: two classes share a value")
        if self.ignore_value is not None and self.ignore_value < 1:
            raise ValueError("labels: the ignore value must be a positive integer (0 is background)")
        if self.ignore_value is not None and self.ignore_value in self.foreground_values:
            raise ValueError("labels: the ignore value is also a class")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the foreground classes, in order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def foreground_values(self) -> tuple[int, ...]:
        """All foreground label values, ascending."""
        return tuple(sorted({value for entry in self.classes for value in entry.values}))

    @property
    def allowed_values(self) -> tuple[int, ...]:
        """All values a label map may hold, ascending."""
        ignore = () if self.ignore_value is None else (self.ignore_value,)
        return tuple(sorted({0, *self.foreground_values, *ignore}))

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each output channel of a network is for: background and classes, or the regions."""
        return self.names if self.overlapping else (self.background_name, *self.names)

    @property
    def outputs(self) -> int:
        """Number of output channels of a network: background and classes, or one per region."""
        return len(self.output_names)

    @property
    def declared(self) -> int:
        """Entries of dataset.json's ``labels``, background and ignore included (what nnU-Net's planner counts)."""
        return len(self.classes) + 1 + (self.ignore_value is not None)

    @property
    def ignore_index(self) -> int | None:
        """Index of the ignore label inside the pipeline, or None."""
        return None if self.ignore_value is None else len(self.foreground_values) + 1

    def class_indices(self, entry: StructureClass) -> tuple[int, ...]:
        """The pipeline's indices of one class (several for a region)."""
        position = {value: index for index, value in enumerate(self.foreground_values, start=1)}
        return tuple(position[value] for value in entry.values)

    def positions(self, names: Sequence[str]) -> tuple[int, ...]:
        """Where classes of these names are in ``classes``, ascending; names of other classes are passed over."""
        return tuple(position for position, entry in enumerate(self.classes) if entry.name in names)

    def check_annotated(self, values: IntArray, annotated: Sequence[str] | None, name: str) -> None:
        """Refuses a label map that shows a class which is said not to be annotated in it.

        Values of any annotated class are fine: of regions, one that is not annotated may share them.

        Args:
            values: Integer label map of any shape.
            annotated: Names of the classes that are annotated in it; None for all.
            name: The file or case, for the message.

        Raises:
            DatasetError: It has a value of classes none of which is annotated.
        """
        if annotated is None:
            return
        fine = {value for entry in self.classes if entry.name in annotated for value in entry.values}
        doubtful = np.array([value for value in self.foreground_values if value not in fine], np.int64)
        found = {int(value) for value in doubtful[np.isin(doubtful, values)]}
        if found:
            shown = [f"'{entry.name}' ({', '.join(map(str, sorted(found & set(entry.values))))})" for entry in self.classes]
            raise DatasetError(
                f"{name}: the label map has classes that dataset.json does not call annotated in this case",
                found=", ".join(text for text, entry in zip(shown, self.classes, strict=True) if found & set(entry.values)),
                expected=", ".join(annotated),
                remedy="add them to the case's list under 'annotated' in dataset.json, or clear them from the label map",
            )

    def encode(self, values: IntArray, name: str) -> IntArray:
        """Label values → indices, same shape; uint8, or uint16 for more than 256 labels.

        Args:
            values: Integer label map of any shape.
            name: The file or case, for the message.

        Raises:
            DatasetError: A value is not in the dataset's labels.
        """
        allowed = np.array(self.allowed_values)
        unknown = self.unknown_values(values)
        if unknown:
            shown = ", ".join(str(value) for value in unknown[:8]) + (" …" if len(unknown) > 8 else "")
            raise DatasetError(
                f"{name}: label values that dataset.json does not name",
                found=shown,
                expected=", ".join(str(value) for value in allowed[:12]) + (" …" if len(allowed) > 12 else ""),
                remedy="add them to 'labels' in dataset.json or correct the label map",
            )
        ignore = () if self.ignore_value is None else (self.ignore_value,)
        order = (0, *self.foreground_values, *ignore)
        dtype = np.uint8 if len(order) <= 256 else np.uint16
        if order == tuple(range(len(order))):
            return values.astype(dtype)
        if max(order) >= LARGE_VALUE:
            ascending = np.argsort(order)
            return np.asarray(ascending.astype(dtype)[np.searchsorted(allowed, values)])
        table = np.zeros(max(order) + 1, dtype)
        table[list(order)] = np.arange(len(order), dtype=dtype)
        return np.asarray(table[values])

    def unknown_values(self, values: IntArray) -> list[int]:
        """Values of a label map that the dataset's labels do not name, ascending."""
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        highest = self.allowed_values[-1]
        if low >= 0 and high <= highest == len(self.allowed_values) - 1:  # 0, 1, 2, … without gaps
            return []
        return [int(value) for value in np.setdiff1d(values, np.array(self.allowed_values))]

    def decode(self, indices: IntArray) -> IntArray:
        """Indices → label values, same shape; the smallest unsigned type that holds them."""
        order = np.array((0, *self.foreground_values))
        highest = int(order[-1])
        dtype = np.uint8 if highest < 2**8 else np.uint16 if highest < 2**16 else np.int32
        if highest == len(order) - 1:
            return indices.astype(dtype)
        return np.asarray(order.astype(dtype)[indices])

    def mask(self, values: IntArray, entry: StructureClass) -> npt.NDArray[np.bool_]:
        """Where a raw label map shows a class; ignore voxels are never part of one."""
        if len(entry.values) == 1:
            return np.asarray(values == entry.values[0])
        return np.isin(values, entry.values)
