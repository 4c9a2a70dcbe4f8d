"""Whatever an image's format, axes and place: its label map lies in the same place of the world, as other libraries read it."""

import pytest
from hypothesis import given, settings

from benchmarks.geometry import Example, check, examples


@settings(max_examples=40, deadline=None)
@given(example=examples())
def test_an_object_keeps_its_place_voxel_by_voxel(tmp_path_factory: pytest.TempPathFactory, example: Example) -> None:
    check(example, tmp_path_factory.mktemp("geometry"))


@settings(max_examples=20, deadline=None)
@given(example=examples(resampled=True))
def test_an_object_keeps_its_place_within_a_voxel_where_the_network_has_another_spacing(
    tmp_path_factory: pytest.TempPathFactory, example: Example
) -> None:
    check(example, tmp_path_factory.mktemp("geometry"))
