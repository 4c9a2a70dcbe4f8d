"""Cardiac MRI of unlike sizes: every number of nnU-Net's own fingerprint (benchmarks/golden/nnunet_fingerprint.py)."""

import json
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from autounet.dataset import read_dataset
from autounet.fingerprint import Fingerprint
from autounet.planners.extract import extract_fingerprint
from autounet.runtime import Runtime

NNUNET: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "nnunet_fingerprint_cardiac.json").read_text(encoding="utf-8"))


@pytest.fixture
def made(shared: Path) -> Fingerprint:
    """Our fingerprint."""
    return extract_fingerprint(read_dataset(shared / "data" / "Dataset102_Cardiac"), Runtime(workers=2))


def test_cardiac_equals_nnunets_fingerprint(made: Fingerprint) -> None:
    assert [case.case for case in made.cases] == NNUNET["cases"]
    assert [list(case.shape_after_crop_zyx) for case in made.cases] == NNUNET["shapes_after_crop"]
    assert [list(case.spacing_mm_zyx) for case in made.cases] == NNUNET["spacings"]
    assert made.median_relative_size_after_crop == NNUNET["median_relative_size_after_cropping"]
    expected = NNUNET["foreground_intensity_properties_per_channel"]["0"]
    found = made.intensities[0].model_dump()
    for exact in ("min", "max", "median", "percentile_00_5", "percentile_99_5"):  # intensities are whole numbers
        assert found[exact] == expected[exact]
    # nnU-Net draws its voxels at random: five standard errors. That of the deviation is at most (max - mean) / 2√n: the variance of
    # (x - mean)² is at most (max - mean)² times that of x, as no x is farther from the mean than the maximum.
    drawn = sqrt(NNUNET["voxels_drawn"])
    assert found["mean"] == pytest.approx(expected["mean"], abs=5 * found["std"] / drawn)
    assert found["std"] == pytest.approx(expected["std"], abs=5 * (found["max"] - found["mean"]) / 2 / drawn)
