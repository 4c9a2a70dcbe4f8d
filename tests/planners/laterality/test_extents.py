"""Where classes lie, against a search for every class by itself; how one class covers another, worked by hand."""

import numpy as np
import pytest

from autounet.labels import LabelSpec, StructureClass
from autounet.planners.components import count_components
from autounet.planners.laterality import extents as extents_module
from autounet.planners.laterality import overlap
from autounet.planners.laterality.extents import measure_extents
from autounet.planners.laterality.overlap import likeness


def spec_of(*values: int | tuple[int, ...], ignore: int | None = None) -> LabelSpec:
    """Classes ``c0``, ``c1``, …; with tuples of values, regions."""
    overlapping = any(isinstance(value, tuple) for value in values)
    classes = tuple(StructureClass(name=f"c{n}", values=value if isinstance(value, tuple) else (value,)) for n, value in enumerate(values))
    return LabelSpec(
        classes=classes, overlapping=overlapping, ignore_value=ignore, paint_order=tuple(range(1, len(values) + 1)) if overlapping else ()
    )


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        (spec_of(1, 2, 3), (0, 1, 2, 3)),
        (spec_of(2, 41, 530), (0, 2, 41, 530)),
        (spec_of(1, 3, ignore=2), (0, 1, 2, 3)),
        (spec_of(1, 3, ignore=4), (0, 1, 3, 4)),
        (spec_of((1, 2, 5), (2,), (5, 2)), (0, 1, 2, 5)),
        (spec_of(7, 2**21, ignore=2**20), (0, 7, 2**20, 2**21)),
        (spec_of(7, 2**21, ignore=2**22), (0, 7, 2**21, 2**22)),
    ],
    ids=["plain", "gaps", "ignore between", "ignore last", "regions", "large values", "large ignore"],
)
@pytest.mark.parametrize("slab", [1, 100, 10**6])
def test_extents_of_random_maps(monkeypatch: pytest.MonkeyPatch, spec: LabelSpec, values: tuple[int, ...], slab: int) -> None:
    monkeypatch.setattr(extents_module, "VOXELS_AT_A_TIME", slab)
    labels = np.random.default_rng(0).choice(np.array(values), (5, 7, 9), p=[0.7, *([0.3 / (len(values) - 1)] * (len(values) - 1))])
    found = measure_extents(labels, spec)
    for position, entry in enumerate(spec.classes):
        places = np.argwhere(np.isin(labels, entry.values))
        assert found.volumes[position] == len(places)
        np.testing.assert_allclose(found.centres_zyx[position], places.mean(axis=0))
        np.testing.assert_allclose(found.spreads_zyx[position], places.std(axis=0))
        assert found.box(position) == tuple(zip(places.min(axis=0), places.max(axis=0) + 1, strict=True))


def test_a_class_that_is_not_there() -> None:
    found = measure_extents(np.ones((2, 2, 2), np.uint8), spec_of(1, 2))
    assert found.volumes.tolist() == [8, 0]
    assert np.isnan(found.centres_zyx[1]).all()
    assert np.isnan(found.spreads_zyx[1]).all()
    assert measure_extents(np.zeros((2, 2, 2), np.uint8), spec_of(1)).volumes.tolist() == [0]


def line(text: str) -> np.ndarray:
    """A label map (1, 1, x) from digits."""
    return np.array([int(digit) for digit in text], np.uint8).reshape(1, 1, -1)


@pytest.mark.parametrize(
    ("text", "mirrored", "moved"),
    [
        ("0111000222", 1.0, 1.0),
        # Voxels 0, 1, 2, 4 (centre 1.75) and 7, 9, 10, 11 (centre 9.25): mirrored about 5.5 they meet exactly. Moved by 7.5, which
        # rounds to 8, the second is at -1, 1, 2, 3: two of four meet, Dice 2 * 2 / 8.
        ("111010020222", 1.0, 0.5),
        # The same the other way round: a copy. Centres 1.75 and 9.75, in sum 11.5, rounded 12: mirrored, it is at 0, 2, 3, 4.
        ("111010002220200", 0.75, 1.0),
        # Three voxels in one of four, at best: 2 * 3 / (3 + 4).
        ("0111000222200", 6 / 7, 6 / 7),
    ],
)
def test_likeness_by_hand(text: str, mirrored: float, moved: float) -> None:
    for axis in range(3):
        labels = np.moveaxis(line(text), 2, axis)
        spec = spec_of(1, 2)
        extents = measure_extents(labels, spec)
        assert likeness(labels, spec, extents, (0, 1), axis) == pytest.approx(mirrored)
        assert likeness(labels, spec, extents, (1, 0), axis) == pytest.approx(mirrored)
        assert likeness(labels, spec, extents, (0, 1), None) == pytest.approx(moved)


def test_likeness_looks_at_fewer_points_of_large_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((40, 40, 90), np.uint8)
    z, y, x = np.ogrid[:40, :40, :90]
    labels[((z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2) < 15**2] = 1
    labels[((z - 20) ** 2 + (y - 18) ** 2 / 2 + (x - 65) ** 2) < 13**2] = 2
    spec = spec_of(1, 2)
    extents = measure_extents(labels, spec)
    exact = likeness(labels, spec, extents, (0, 1), 2)
    assert 0.5 < exact < 0.95
    monkeypatch.setattr(overlap, "MOST_POINTS", 2000)
    assert likeness(labels, spec, extents, (0, 1), 2) == pytest.approx(exact, abs=0.03)


def test_components_of_a_planar_map() -> None:
    """Class 1: two squares that touch in a corner are two; a speck of 3 × 5 pixels does not count. Class 2 is not there."""
    labels = np.zeros((1, 20, 30), np.uint8)
    labels[0, 0:4, 0:4] = labels[0, 4:8, 4:8] = 1
    labels[0, 12:15, 0:5] = 1
    labels[0, :, 20] = 3  # cuts the background in two
    assert count_components(labels, spec_of(1, 2, 3), measure_extents(labels, spec_of(1, 2, 3))) == {
        "background": 2,
        "c0": 2,
        "c1": 0,
        "c2": 1,
    }
