"""Fingerprints to plan from."""

from collections.abc import Callable, Sequence

import pytest

from autounet.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autounet.labels import LabelSpec, StructureClass

INTENSITIES = Intensities(mean=100.0, std=20.0, min=-1000.0, max=3000.0, median=90.0, percentile_00_5=-50.0, percentile_99_5=250.0)


@pytest.fixture
def make_fingerprint() -> Callable[..., Fingerprint]:
    """Builds a fingerprint of equal cases: ``make_fingerprint(spacing, shape, cases=20, classes=2, …)``."""

    def make(
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        shape: Sequence[int] = (64, 64, 64),
        *,
        cases: int = 20,
        classes: int = 2,
        channels: Sequence[str] = ("MRI",),
        ndim: int = 3,
        relative_size: float = 1.0,
        ignore: bool = False,
    ) -> Fingerprint:
        z, y, x = shape
        a, b, c = (float(value) for value in spacing)
        return Fingerprint(
            made_from={},
            dataset="Dataset001_Test",
            ndim=ndim,
            channels=tuple(channels),
            labels=LabelSpec(
                classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in range(1, classes + 1)),
                ignore_value=classes + 1 if ignore else None,
            ),
            cases=tuple(
                CaseFingerprint(
                    case=f"case_{number:04d}",
                    shape_zyx=(z, y, x),
                    shape_after_crop_zyx=(z, y, x),
                    spacing_mm_zyx=(a, b, c),
                    class_voxels={},
                )
                for number in range(cases)
            ),
            intensities=(INTENSITIES,) * len(channels),
            median_relative_size_after_crop=relative_size,
        )

    return make
