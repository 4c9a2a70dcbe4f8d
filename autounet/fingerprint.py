"""Fingerprint: what a dataset is. Written by ``extract``, read by the planner; no logic."""

from typing import Annotated, ClassVar

from pydantic import Field

from autounet.artefact import Artefact, Frozen
from autounet.geometry import TripleMm
from autounet.labels import LabelSpec

MOST_VOXELS = 10**9
"""Along an axis."""

Voxels = Annotated[int, Field(ge=0, le=MOST_VOXELS)]


class Intensities(Frozen):
    """Intensities of one channel over the foreground voxels of all training cases."""

    mean: float
    std: Annotated[float, Field(ge=0)]
    min: float
    max: float
    median: float
    percentile_00_5: float
    percentile_99_5: float


class MirroredClasses(Frozen):
    """Two classes that are each other's mirror image, as the left and the right kidney are: mirrored, one would pass for the other."""

    first: str
    second: str
    """Names of the classes, in the dataset's order."""
    axis_zyx: int
    """Array axis across which they lie, as read: 0 z, 1 y, 2 x."""
    cases: int
    """Cases in which they lie along this axis; where cases are stored in different ways, a pair has an entry for each axis."""
    likeness: float
    """How well one, mirrored, covers the other: median Dice over these cases, 0 to 1."""
    named: bool
    """Their names differ in left and right alone."""


class CaseFingerprint(Frozen):
    """One training case."""

    case: str
    shape_zyx: tuple[Voxels, Voxels, Voxels]
    shape_after_crop_zyx: tuple[Voxels, Voxels, Voxels]
    """After cropping to the nonzero region."""
    spacing_mm_zyx: TripleMm
    class_voxels: dict[str, Annotated[int, Field(ge=0, lt=2**63)]]
    """Voxels of each foreground class that is annotated in this case, by name; empty where nobody counted."""
    orientation: Annotated[str, Field(pattern="^([LRAPSI]{3})?$")] = ""
    """Where the array axes z, y, x point in the patient, nearest of L(eft), R(ight), A(nterior), P(osterior), S(uperior), I(nferior):
    most NIfTI files are ``SAR`` or ``SPL``. Empty where the file does not know, as planar ones do not."""
    annotated_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Of the voxels those with any label but the ignore label; None where labels have no such, or nobody counted."""
    components: dict[str, int] = Field(default_factory=dict)
    """Planar images only: connected components of each class and of the background, by name (4-neighbourhood, specks left out)."""


class Fingerprint(Artefact):
    """What the dataset is. Axes are z, y, x as read; nothing is transposed or resampled."""

    KIND: ClassVar[str] = "fingerprint"
    VERSION: ClassVar[int] = 2

    kind: str = KIND
    schema_version: int = VERSION
    dataset: str
    ndim: int
    """2 when every image is planar, else 3."""
    channels: tuple[str, ...]
    """Names from dataset.json, which choose the normalisation (``CT``, ``MRI``, …)."""
    labels: LabelSpec
    cases: tuple[CaseFingerprint, ...]
    """Sorted by case identifier."""
    intensities: tuple[Intensities, ...]
    """One per channel."""
    median_relative_size_after_crop: float
    """Median over cases of cropped voxels / all voxels."""
    mirrored_classes: tuple[MirroredClasses, ...] = ()
    """Pairs of classes that mirroring would mistake for each other."""

    def is_partial(self, case: CaseFingerprint) -> bool:
        """Whether some classes are not annotated in a case."""
        return 0 < len(case.class_voxels) < len(self.labels.names)
