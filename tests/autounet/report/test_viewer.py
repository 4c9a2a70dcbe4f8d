"""Which cases are shown slice by slice, and how they lie."""

import itertools
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from autounet.geometry import Grid
from autounet.report.viewer import (
    ARRAY_PLANES,
    PATIENT_EDGES,
    PATIENT_PLANES,
    Shown,
    choose_cases,
    display_axes,
    has_colours,
    viewer_payload,
)
from autounet.report.volumes import Packed

ORIENTATIONS = ["".join(letters) for axes in itertools.permutations(("SI", "PA", "LR")) for letters in itertools.product(*axes)]


def test_worst_median_and_best_of_many() -> None:
    chosen = choose_cases({f"case_{number:02d}": number / 100 for number in range(21)} | {"undefined": None})
    assert chosen == {
        **dict.fromkeys(("case_00", "case_01", "case_02", "case_03"), "worst"),
        "case_09": "median",
        "case_10": "median",
        "case_19": "best",
        "case_20": "best",
    }
    assert list(chosen) == sorted(chosen), "failures first"


@pytest.mark.parametrize("cases", range(12))
def test_no_case_is_shown_twice_and_few_are_all_shown(cases: int) -> None:
    means = {str(number): 0.5 for number in range(cases)}
    chosen = choose_cases(means)
    assert len(chosen) == min(cases, 8)
    assert set(chosen) <= set(means)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_planes_are_those_of_the_patient(orientation: str) -> None:
    """All 48 ways in which a file may lie, against nibabel's reorientation: indices grow towards head, back and left."""
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    order, flips = display_axes(Grid(shape_zyx=(2, 3, 4), spacing_mm_zyx=(1.0, 1.0, 1.0)), orientation)
    turned = np.flip(array.transpose(order), flips)
    labels = (("I", "S"), ("A", "P"), ("R", "L"))
    codes = nib.orientations.axcodes2ornt(tuple(orientation), labels)
    wanted = nib.orientations.axcodes2ornt(("S", "P", "L"), labels)
    expected = nib.orientations.apply_orientation(array, nib.orientations.ornt_transform(codes, wanted))
    np.testing.assert_array_equal(turned, expected)


def test_letters_at_the_edges_follow_the_axes_that_are_shown() -> None:
    """Of a volume as it is packed, indices z, y, x grow towards S, P, L; columns go from left to right, rows downwards, but z up."""
    opposite = dict(zip("SIPALR", "ISAPRL", strict=True))
    for (rows, columns), edges in zip(("PL", "SL", "SP"), PATIENT_EDGES, strict=True):
        top, bottom = (rows, opposite[rows]) if rows == "S" else (opposite[rows], rows)
        assert tuple(edges) == (top, bottom, opposite[columns], columns)


def test_only_volumes_that_know_how_they_lie_have_letters() -> None:
    packed = Packed((1, 1, 1), (1.0, 1.0, 1.0), 1, (), "", 1, "")
    edges = [
        viewer_payload(Shown("a", "0", "worst", planes, False, packed))["edges"] for planes in (PATIENT_PLANES, ARRAY_PLANES, ("slice",))
    ]
    assert edges == [["APRL", "SIRL", "SIAP"], [], []]


def test_colours_are_known_by_name_or_normalisation() -> None:
    def evidence(channels: tuple[str, ...], *schemes: str) -> SimpleNamespace:
        configuration = SimpleNamespace(normalization=[SimpleNamespace(scheme=scheme) for scheme in schemes])
        return SimpleNamespace(fingerprint=SimpleNamespace(channels=channels), plan=SimpleNamespace(configurations={"2d": configuration}))

    assert has_colours(evidence(("R", "G", "B"), "zscore", "zscore", "zscore"))
    assert has_colours(evidence(("stain 1", "stain 2", "stain 3"), "rgb", "rgb", "rgb"))
    assert not has_colours(evidence(("T1", "T2", "FLAIR"), "zscore", "zscore", "zscore"))
    assert not has_colours(evidence(("light",), "rgb"))


def test_planar_images_and_unknown_orientations_stay_as_they_are() -> None:
    planar = Grid(ndim=2, shape_zyx=(1, 3, 4), spacing_mm_zyx=(1.0, 1.0, 1.0))
    assert display_axes(planar, "SPL") == ((0, 1, 2), ())
    assert display_axes(Grid(shape_zyx=(2, 3, 4), spacing_mm_zyx=(1.0, 1.0, 1.0)), "") == ((0, 1, 2), ())
