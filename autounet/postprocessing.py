"""Postprocessing: what is done to a predicted label map before it is written."""

from typing import ClassVar

from pydantic import Field

from autounet.artefact import Artefact, Frozen

MOST_STEPS = 10_000
"""More are no postprocessing but an attempt to keep a machine busy."""


class KeepLargest(Frozen):
    """Of the voxels with any of these label values only the largest connected component stays; the others become background.

    Neighbours are all voxels that share a face, an edge or a corner. Of components of the same, largest size all stay.
    """

    values: tuple[int, ...] = Field(min_length=1)
    """Label values, as in the dataset's label maps."""


class Postprocessing(Artefact):
    """Steps in the order in which they are carried out."""

    KIND: ClassVar[str] = "postprocessing"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    steps: tuple[KeepLargest, ...]
