"""The U-Net of 2015 as a preset: sizes, patch, loss."""

from collections.abc import Callable

import pytest

from autounet.errors import UsageError
from autounet.fingerprint import Fingerprint
from autounet.labels import LabelSpec, StructureClass
from autounet.networks.cost import output_size
from autounet.plan import LossSpec, Overrides, Plan
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

Make = Callable[..., Fingerprint]


def plan(fingerprint: Fingerprint, memory: float | None = None, **overrides: object) -> Plan:
    return make_plan(
        fingerprint, PRESETS["unet2015"], file_ending=".png", gpu_memory_gb=memory, overrides=Overrides.model_validate(overrides)
    )


def test_the_papers_network(make_fingerprint: Make) -> None:
    made = plan(make_fingerprint(shape=(1, 512, 512), ndim=2, classes=1))
    assert list(made.configurations) == ["2d"]
    chosen = made.configurations["2d"]
    assert (chosen.patch_size, output_size(chosen.network, chosen.patch_size), chosen.batch_size) == ((572, 572), (388, 388), 1)
    assert chosen.network.features == (64, 128, 256, 512, 1024)
    assert chosen.network.strides == ((1, 1), (2, 2), (2, 2), (2, 2), (2, 2))
    assert (made.loss.kind, made.augmentation) == ("border_ce", "unet2015")


def test_input_is_no_wider_than_its_output_needs_to_be(make_fingerprint: Make) -> None:
    """An output of 16 b - 60 pixels comes from 16 b + 124: 100 pixels need b = 10, 300 need b = 23 (308 from 492)."""
    chosen = plan(make_fingerprint(shape=(1, 100, 300), ndim=2)).configurations["2d"]
    assert chosen.patch_size == (284, 492)
    assert output_size(chosen.network, chosen.patch_size) == (100, 308)


def test_input_shrinks_to_the_memory(make_fingerprint: Make) -> None:
    chosen = plan(make_fingerprint(shape=(1, 512, 512), ndim=2), memory=3.0).configurations["2d"]
    assert chosen.patch_size[0] < 572
    assert output_size(chosen.network, chosen.patch_size)
    with pytest.raises(UsageError, match=r"no network of preset 'unet2015' is small enough .*the nearest that can") as caught:
        plan(make_fingerprint(shape=(1, 512, 512), ndim=2), memory=0.1)
    enough = float((caught.value.remedy or "").removeprefix("--gpu-memory "))
    assert plan(make_fingerprint(shape=(1, 512, 512), ndim=2), memory=enough).configurations["2d"].patch_size == (188, 188)


def test_volumes_are_seen_slice_by_slice(make_fingerprint: Make) -> None:
    made = plan(make_fingerprint(shape=(64, 128, 128)))
    assert list(made.configurations) == ["2d"]
    assert "slice by slice" in made.decisions[1].reason


def test_size_that_cannot_be_pooled_is_refused_with_the_nearest(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(1, 512, 512), ndim=2)
    with pytest.raises(UsageError, match="expected 508×572, the nearest that can"):
        plan(fingerprint, patch_size={"2d": (512, 570)})
    assert plan(fingerprint, patch_size={"2d": (508, 572)}).configurations["2d"].patch_size == (508, 572)
    with pytest.raises(UsageError, match="does not fit into 6 GB"):
        plan(fingerprint, patch_size={"2d": (1020, 1020)})


def with_components(fingerprint: Fingerprint, components: dict[str, int], voxels: dict[str, int]) -> Fingerprint:
    cases = tuple(case.model_copy(update={"components": components, "class_voxels": voxels}) for case in fingerprint.cases)
    return fingerprint.model_copy(update={"cases": cases})


def test_rare_classes_weigh_more(make_fingerprint: Make) -> None:
    """Of 100 × 100 pixels a quarter is labelled: shares 3/4 and 1/4 against an even 1/2."""
    flat = make_fingerprint(shape=(1, 100, 100), ndim=2, classes=1)
    loss = plan(with_components(flat, {"background": 1, "c1": 30}, {"c1": 2500})).loss
    assert loss == LossSpec(kind="border_ce", class_weights=(0.6667, 2.0), objects=(1,))


def test_background_in_pieces_is_the_objects(make_fingerprint: Make) -> None:
    """Cells that are the background between membranes, as in electron microscopy."""
    flat = make_fingerprint(shape=(1, 100, 100), ndim=2, classes=1)
    loss = plan(with_components(flat, {"background": 80, "c1": 3}, {"c1": 2500})).loss
    assert (loss.objects, loss.class_weights) == ((0,), ())


def test_unknown_frequencies_weigh_the_same(make_fingerprint: Make) -> None:
    assert plan(make_fingerprint(shape=(1, 100, 100), ndim=2)).loss.class_weights == ()


def test_regions_are_refused(make_fingerprint: Make) -> None:
    regions = LabelSpec(
        classes=(StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(2,))),
        overlapping=True,
        paint_order=(1, 2),
    )
    with pytest.raises(UsageError, match="'unet2015' cannot be used with overlapping regions"):
        plan(make_fingerprint(shape=(1, 100, 100), ndim=2).model_copy(update={"labels": regions}))


def test_wrong_number_of_axes_names_what_would_do(make_fingerprint: Make) -> None:
    for shape, ndim in (((1, 512, 512), 2), ((64, 512, 512), 3)):
        with pytest.raises(UsageError, match="patch size 572 of 2d: 1 axis: expected 2 sizes, such as 572,572"):
            plan(make_fingerprint(shape=shape, ndim=ndim), patch_size={"2d": (572,)})


def test_the_nearest_size_also_fits_into_the_memory(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(1, 512, 512), ndim=2)
    for wanted in ((500, 500), (492, 508), (4000, 300)):
        with pytest.raises(UsageError, match="the nearest") as caught:
            plan(fingerprint, memory=3.0, patch_size={"2d": wanted})
        text = (caught.value.remedy or "").split(", ")[0].removeprefix("--patch-size 2d=")
        nearest = tuple(int(edge) for edge in text.split(","))
        assert plan(fingerprint, memory=3.0, patch_size={"2d": nearest}).configurations["2d"].patch_size == nearest


def test_with_an_ignore_label_nobody_knows_how_frequent_the_background_is(make_fingerprint: Make) -> None:
    sparse = make_fingerprint(shape=(1, 100, 100), ndim=2, classes=1, ignore=True)
    assert plan(with_components(sparse, {"background": 1, "c1": 30}, {"c1": 300})).loss.class_weights == ()
