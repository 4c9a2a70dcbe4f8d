"""Fingerprint: what a dataset is. Written by ``extract``, read by the planner; no logic."""

from typing import ClassVar

from autounet.artefact import Artefact, Frozen
from autounet.geometry import Triple, TripleMm
from autounet.labels import LabelSpec


class Intensities(Frozen):
    """Intensities of one channel over the foreground voxels of all training cases."""

    mean: float
    std: float
    min: float
    max: float
    median: float
    percentile_00_5: float
    percentile_99_5: float


class CaseFingerprint(Frozen):
    """One training case."""

    case: str
    shape_zyx: Triple
    shape_after_crop_zyx: Triple
    """After cropping to the nonzero region."""
    spacing_mm_zyx: TripleMm
    class_voxels: dict[str, int]
    """Voxels of each foreground class, by name."""


class Fingerprint(Artefact):
    """What the dataset is. Axes are z, y, x as read; nothing is transposed or resampled."""

    KIND: ClassVar[str] = "fingerprint"
    VERSION: ClassVar[int] = 1

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
