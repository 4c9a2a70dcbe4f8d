"""Postprocessing: what is done to a predicted label map before it is written."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autounet.artefact import Artefact, Frozen

MOST_STEPS = 10_000
"""More are no postprocessing but an attempt to keep a machine busy."""

Values = Annotated[tuple[int, ...], Field(min_length=1)]


class KeepLargest(Frozen):
    """Of the voxels with any of these label values only the largest connected component stays; the others become background.

    Neighbours are all voxels that share a face, an edge or a corner. Of components of the same, largest size all stay.
    """

    kind: Literal["keep_largest"] = "keep_largest"
    values: Values
    """Label values, as in the dataset's label maps."""


class RemoveSmall(Frozen):
    """Connected components of the voxels with any of these label values that are smaller than this become background."""

    kind: Literal["remove_small"]
    values: Values
    below_mm: Annotated[float, Field(gt=0)]
    """Volume in mm³; area in mm² of planar images."""


class FillHoles(Frozen):
    """Background that is enclosed by voxels with any of these label values gets the first of them.

    Enclosed is what no path through faces leads out of, to the border of the image; in planar images, through edges.
    """

    kind: Literal["fill_holes"]
    values: Values


Step = KeepLargest | RemoveSmall | FillHoles


class Postprocessing(Artefact):
    """Steps in the order in which they are carried out."""

    KIND: ClassVar[str] = "postprocessing"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    steps: tuple[Step, ...]
