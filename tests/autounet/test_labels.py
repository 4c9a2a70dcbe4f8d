"""Labels: values, indices, outputs."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from autounet.errors import DatasetError
from autounet.labels import LabelSpec, StructureClass


def plain(*values: int, ignore: int | None = None) -> LabelSpec:
    return LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in values), ignore_value=ignore)


REGIONS = LabelSpec(
    classes=(StructureClass(name="whole", values=(1, 2, 9)), StructureClass(name="core", values=(2, 9))),
    overlapping=True,
    paint_order=(1, 2),
    ignore_value=12,
)


def test_consecutive_values_are_their_own_indices() -> None:
    spec = plain(1, 2)
    assert spec.encode(np.array([0, 2, 1]), "case").tolist() == [0, 2, 1]
    assert spec.decode(np.array([0, 2, 1])).tolist() == [0, 2, 1]
    assert (spec.outputs, spec.declared, spec.ignore_index) == (3, 3, None)


def test_values_with_gaps() -> None:
    spec = plain(2, 7, 300)
    assert spec.encode(np.array([[0, 300], [7, 2]], np.uint16), "case").tolist() == [[0, 3], [2, 1]]
    assert spec.decode(np.array([[0, 3], [2, 1]])).tolist() == [[0, 300], [7, 2]]
    assert spec.allowed_values == (0, 2, 7, 300)


@pytest.mark.parametrize(("ignore", "values"), [(3, (1, 2)), (255, (1, 2)), (1, (2, 3))])
def test_ignore_comes_after_the_classes_whatever_its_value(ignore: int, values: tuple[int, int]) -> None:
    spec = plain(*values, ignore=ignore)
    assert spec.encode(np.array([0, values[0], values[1], ignore]), "case").tolist() == [0, 1, 2, 3]
    assert spec.ignore_index == 3
    assert spec.outputs == 3  # it is never predicted
    assert spec.declared == 4  # but nnU-Net's planner counts it
    assert not spec.mask(np.array([ignore]), spec.classes[0]).any()


def test_regions() -> None:
    assert REGIONS.outputs == 2  # one per region, none for background
    assert REGIONS.declared == 4
    assert REGIONS.foreground_values == (1, 2, 9)
    assert REGIONS.encode(np.array([0, 1, 2, 9, 12]), "case").tolist() == [0, 1, 2, 3, 4]
    assert [REGIONS.class_indices(entry) for entry in REGIONS.classes] == [(1, 2, 3), (2, 3)]
    values = np.array([0, 1, 2, 9, 12])
    assert [REGIONS.mask(values, entry).tolist() for entry in REGIONS.classes] == [
        [False, True, True, True, False],
        [False, False, True, True, False],
    ]


@pytest.mark.parametrize(("highest", "dtype"), [(2, np.uint8), (255, np.uint8), (256, np.uint16), (65_536, np.int32)])
def test_decoded_maps_take_the_smallest_type(highest: int, dtype: type) -> None:
    found = plain(1, highest).decode(np.array([0, 1, 2], np.uint8))
    assert found.dtype == dtype
    assert found.tolist() == [0, 1, highest]


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_indices_take_the_smallest_type(count: int, dtype: type) -> None:
    """255 classes and background are 256 indices, the last of which is 255."""
    for step in (1, 2):
        spec = plain(*(step * value for value in range(1, count + 1)))
        found = spec.encode(np.array([0, step * count]), "case")
        assert found.dtype == dtype
        assert found.tolist() == [0, count]


def test_very_large_values() -> None:
    spec = plain(614_454_277, 997)
    assert spec.decode(spec.encode(np.array([0, 614_454_277, 997], np.uint32), "case")).tolist() == [0, 614_454_277, 997]


@given(
    values=st.sets(st.integers(1, 400), min_size=1, max_size=20),
    ignore=st.none() | st.integers(1, 400),
    dtype=st.sampled_from([np.uint16, np.int16, np.int32, np.uint64, np.int64]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=100, deadline=None)
def test_decode_undoes_encode(values: set[int], ignore: int | None, dtype: Any, seed: int) -> None:
    spec = plain(*sorted(values - {ignore or 0}) or [401], ignore=ignore)
    array = np.random.default_rng(seed).choice(np.array((0, *spec.foreground_values)), (3, 4, 5)).astype(dtype)
    encoded = spec.encode(array, "case")
    assert encoded.max() <= len(spec.classes)
    np.testing.assert_array_equal(spec.decode(encoded), array)


@pytest.mark.parametrize("spec", [plain(1, 2), plain(1, 5)])
@pytest.mark.parametrize("stranger", [3, 200, -1])
def test_unknown_values_are_named(spec: LabelSpec, stranger: int) -> None:
    with pytest.raises(DatasetError) as caught:
        spec.encode(np.array([0, 1, stranger], np.int16), "case_7")
    known = ", ".join(map(str, spec.allowed_values))
    assert str(caught.value).startswith(f"case_7: label values that dataset.json does not name: found {stranger}, expected {known}. ")


def test_many_unknown_values_are_cut_short() -> None:
    with pytest.raises(DatasetError, match="found 3, 4, 5, 6, 7, 8, 9, 10 …, expected 0, 1, 2"):
        plain(1, 2).encode(np.arange(30), "case")
    assert plain(1, 2).unknown_values(np.arange(5)) == [3, 4]
    assert plain(1, 2).unknown_values(np.zeros(0, np.uint8)) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ()}, "no foreground class"),
        ({"classes": (StructureClass(name="a", values=(1,)), StructureClass(name="a", values=(2,)))}, "same name"),
        ({"classes": (StructureClass(name="a", values=(0,)),)}, "positive integer"),
        ({"classes": (StructureClass(name="a", values=()),)}, "positive integer"),
        ({"classes": (StructureClass(name="a", values=(1,)), StructureClass(name="b", values=(1,)))}, "share a value"),
        ({"overlapping": True}, "0 entries for 1 regions"),
        ({"ignore_value": 1}, "ignore value is also a class"),
        ({"ignore_value": 0}, "ignore value must be a positive integer"),
        ({"ignore_value": -1}, "ignore value must be a positive integer"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LabelSpec(**{"classes": (StructureClass(name="a", values=(1,)),), **change})


def test_a_label_map_may_show_only_classes_that_are_annotated() -> None:
    spec = plain(2, 7, 300, ignore=4)
    values = np.array([0, 2, 4, 300], np.uint16)
    spec.check_annotated(values, None, "case")
    spec.check_annotated(values, ("c2", "c300"), "case")
    with pytest.raises(DatasetError, match=r"a\.nii: .*found 'c300' \(300\), expected c2, c7\. Add them to the case's list"):
        spec.check_annotated(values, ("c2", "c7"), "a.nii")


def test_regions_that_are_not_annotated_may_share_the_values_of_one_that_is() -> None:
    values = np.array([0, 1, 2, 12])
    REGIONS.check_annotated(values, ("whole",), "case")
    with pytest.raises(DatasetError, match=r"found 'whole' \(1\), expected core"):
        REGIONS.check_annotated(values, ("core",), "case")
    assert [REGIONS.positions(names) for names in (("core",), ("core", "whole"), ())] == [(1,), (0, 1), ()]
