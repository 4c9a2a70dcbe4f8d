"""The whole plan: what it holds, what any sane fingerprint gives, and what is refused."""

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint, MirroredClasses
from autounet.labels import LabelSpec, StructureClass
from autounet.networks.build import build_network
from autounet.networks.cost import activations, output_size, stage_sizes
from autounet.plan import Configuration, Overrides, Plan
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

Make = Callable[..., Fingerprint]


def test_plan_names_what_it_was_made_from(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint()
    plan = make_plan(fingerprint, PRESETS["nnunet"], file_ending=".nii.gz")
    assert plan.made_from == {"fingerprint": fingerprint.digest()}
    assert (plan.preset, plan.gpu_memory_gb, plan.file_ending) == ("nnunet", 8.0, ".nii.gz")
    assert Plan.from_json(plan.to_json(), "plan") == plan


def test_every_decision_has_a_value_and_a_reason(make_fingerprint: Make) -> None:
    plan = make_plan(make_fingerprint((5.0, 1.0, 1.0), (20, 300, 300), channels=("CT", "PET")), PRESETS["nnunet"], file_ending=".mha")
    for decisions in (plan.decisions, *(configuration.decisions for configuration in plan.configurations.values())):
        names = [decision.name for decision in decisions]
        assert len(names) == len(set(names))
        assert all(decision.value and decision.reason and "\n" not in decision.reason for decision in decisions)
        assert {decision.chosen_by for decision in decisions} == {"rule"}


def test_axes_are_in_the_networks_order(make_fingerprint: Make) -> None:
    """The coarse axis is the last one read: everything per axis starts with it; 2D keeps the other two."""
    plan = make_plan(make_fingerprint((1.0, 0.9, 5.0), (200, 220, 30)), PRESETS["nnunet"], file_ending=".nii.gz")
    assert plan.transpose == (2, 0, 1)
    assert plan.configurations["3d_fullres"].spacing_mm == (5.0, 1.0, 0.9)
    assert plan.configurations["3d_fullres"].median_shape == (30, 200, 220)
    assert plan.configurations["2d"].spacing_mm == (1.0, 0.9)
    assert plan.configurations["2d"].median_shape == (200, 220)


def test_planar_images_get_2d_only(make_fingerprint: Make) -> None:
    plan = make_plan(make_fingerprint((1.0, 1.0, 1.0), (1, 512, 512), ndim=2), PRESETS["nnunet"], file_ending=".png")
    assert list(plan.configurations) == ["2d"]
    assert plan.transpose == (0, 1, 2)


def test_volumes_of_one_slice_get_2d_only(make_fingerprint: Make) -> None:
    plan = make_plan(make_fingerprint((1.0, 8.0, 1.0), (300, 1, 300)), PRESETS["nnunet"], file_ending=".nii.gz")
    assert list(plan.configurations) == ["2d"]
    assert plan.configurations["2d"].median_shape == (300, 300)


def test_configuration_whose_images_cannot_be_halved_is_left_out(make_fingerprint: Make) -> None:
    plan = make_plan(make_fingerprint((2.0, 1.0, 1.0), (100, 7, 7)), PRESETS["nnunet"], file_ending=".nii.gz")
    assert list(plan.configurations) == ["3d_fullres"]
    assert "no 2d: 7×7 voxels are too few" in plan.decisions[1].reason


def test_memory_is_counted_with_all_entries_of_labels_but_the_network_has_only_its_outputs(make_fingerprint: Make) -> None:
    """nnU-Net's planner counts background, ignore and regions; the network has no output for ignore, none for background with regions."""
    ignoring = make_plan(make_fingerprint(classes=2, ignore=True), PRESETS["nnunet"], file_ending=".nii.gz")
    assert ignoring.configurations["2d"].network.outputs == 3
    regions = LabelSpec(
        classes=(StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(2,))),
        overlapping=True,
        paint_order=(1, 2),
    )
    overlapping = make_plan(make_fingerprint().model_copy(update={"labels": regions}), PRESETS["nnunet"], file_ending=".nii.gz")
    assert overlapping.configurations["2d"].network.outputs == 2
    assert overlapping.configurations["2d"].patch_size == ignoring.configurations["2d"].patch_size


def test_batch_dice_needs_a_low_resolution_stage(make_fingerprint: Make) -> None:
    large = make_plan(make_fingerprint((1.0,) * 3, (512,) * 3), PRESETS["nnunet"], file_ending=".nii.gz")
    small = make_plan(make_fingerprint((1.0,) * 3, (128,) * 3), PRESETS["nnunet"], file_ending=".nii.gz")
    assert large.configurations["3d_fullres"].batch_dice
    assert not small.configurations["3d_fullres"].batch_dice
    assert large.configurations["2d"].batch_dice
    assert small.configurations["2d"].batch_dice


@pytest.mark.parametrize(
    ("spacing", "shape", "cases", "patches"),
    [
        ((1.0, 1.0, 1.0), (36, 50, 35), 260, {"3d_fullres": ((40, 56, 40), 2)}),
        ((10.0, 1.5, 1.5), (10, 256, 224), 40, {"3d_fullres": ((8, 192, 160), 2)}),
        ((1.0, 1.0, 1.0), (1, 512, 512), 20, {"2d": ((256, 256), 4)}),
    ],
    ids=["hippocampus", "cardiac", "microscopy"],
)
def test_small_preset_suits_a_cpu(
    make_fingerprint: Make, spacing: tuple[float, ...], shape: tuple[int, ...], cases: int, patches: dict[str, tuple[tuple[int, ...], int]]
) -> None:
    fingerprint = make_fingerprint(spacing, shape, cases=cases, ndim=2 if shape[0] == 1 else 3)
    plan = make_plan(fingerprint, PRESETS["small"], file_ending=".nii.gz")
    for name, (patch, batch) in patches.items():
        assert (plan.configurations[name].patch_size, plan.configurations[name].batch_size) == (patch, batch)


LEFT_RIGHT = MirroredClasses(first="c1", second="c2", axis_zyx=2, cases=20, likeness=0.9, named=True)


@pytest.mark.parametrize(
    ("preset", "spacing", "shape", "expected"),
    [
        ("nnunet", (1.0, 1.0, 1.0), (128, 128, 128), {"3d_fullres": (0, 1), "2d": ()}),  # 3D patches are turned by 30° at most
        ("nnunet", (5.0, 1.0, 1.0), (20, 200, 200), {"3d_fullres": (0,), "2d": ()}),  # thick slices are turned by any angle
        ("nnunet", (1.0, 1.0, 1.0), (64, 256, 100), {"2d": (0,)}),  # long 2D patches by 15° at most
        ("unet2015", (1.0, 1.0, 1.0), (64, 256, 100), {"2d": ()}),
    ],
)
def test_half_a_turn_must_not_bring_back_the_axis_that_is_not_mirrored(
    make_fingerprint: Make, preset: str, spacing: tuple[float, ...], shape: tuple[int, ...], expected: dict[str, tuple[int, ...]]
) -> None:
    fingerprint = make_fingerprint(spacing, shape).model_copy(update={"mirrored_classes": (LEFT_RIGHT,)})
    plan = make_plan(fingerprint, PRESETS[preset], file_ending=".nii.gz")
    assert {name: plan.configurations[name].mirror_axes for name in expected} == expected
    chosen = make_plan(fingerprint, PRESETS[preset], file_ending=".nii.gz", overrides=Overrides(mirror_axes_zyx=(0, 1)))
    assert chosen.configurations["2d"].mirror_axes == (0,)


def test_presets_are_named_as_they_are_listed() -> None:
    assert all(name == preset.name for name, preset in PRESETS.items())


@given(
    spacing=st.tuples(*[st.floats(0.05, 20.0)] * 3),
    shape=st.tuples(*[st.integers(16, 700)] * 3),
    cases=st.integers(1, 30),
    classes=st.integers(1, 40),
    preset=st.sampled_from(sorted(PRESETS)),
    ndim=st.sampled_from([2, 3]),
    memory=st.one_of(st.none(), st.floats(4.0, 80.0)),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sane_fingerprint_gives_a_network_that_works(
    make_fingerprint: Make,
    spacing: tuple[float, ...],
    shape: tuple[int, ...],
    cases: int,
    classes: int,
    preset: str,
    ndim: int,
    memory: float | None,
) -> None:
    shape = (1, *shape[1:]) if ndim == 2 else shape
    fingerprint = make_fingerprint(spacing, shape, cases=cases, classes=classes, ndim=ndim)
    numbers = PRESETS[preset]
    plan = make_plan(fingerprint, numbers, file_ending=".nii.gz", gpu_memory_gb=memory)
    assert plan == make_plan(fingerprint, numbers, file_ending=".nii.gz", gpu_memory_gb=memory)
    assert sorted(plan.transpose) == [0, 1, 2]
    assert plan.configurations
    for configuration in plan.configurations.values():
        network = configuration.network
        assert len(configuration.patch_size) == len(configuration.spacing_mm) == network.ndim
        assert configuration.batch_size >= numbers.min_batch
        total = np.prod(np.array(network.strides), axis=0)
        if network.kind != "unet2015":
            assert all(size % stride == 0 for size, stride in zip(configuration.patch_size, total, strict=True))
        assert all(min(size) >= 1 for size in stage_sizes(network, configuration.patch_size))
        assert len(network.features) == len(network.strides) == len(network.kernel_sizes) == len(network.blocks_decoder) + 1 > 1
        target = numbers.planar if network.ndim == 2 else numbers.volumetric
        assert target is not None
        assert max(network.features) <= target.max_features
        assert target.max_batch is None or configuration.batch_size <= target.max_batch
        allowed = target.features * target.batch / target.patch_batch * plan.gpu_memory_gb / numbers.gpu_memory_gb
        assert activations(network, configuration.patch_size) <= allowed
        assert prod(configuration.patch_size) > 1
        assert_runs(configuration)


def assert_runs(configuration: Configuration) -> None:
    """The network, two feature maps wide and, where it is padded, with a patch of at most twice its strides, takes the patch."""
    network = configuration.network.model_copy(update={"features": (2,) * len(configuration.network.features), "in_channels": 1})
    patch = configuration.patch_size
    if network.kind != "unet2015":
        total = np.prod(np.array(network.strides), axis=0).tolist()
        patch = tuple(min(size, 2 * stride) for size, stride in zip(patch, total, strict=True))
    with torch.no_grad():
        (scores,) = build_network(network).eval()(torch.zeros(1, 1, *patch))
    assert tuple(scores.shape) == (1, network.outputs, *output_size(network, patch))


def altered(fingerprint: Fingerprint, **case: object) -> Fingerprint:
    """The fingerprint with one case changed."""
    first, *others = fingerprint.cases
    return fingerprint.model_copy(update={"cases": (first.model_copy(update=case), *others)})


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan")), (float("inf"), 1.0, 1.0)])
def test_spacing_that_is_not_positive_is_refused(make_fingerprint: Make, spacing: tuple[float, ...]) -> None:
    with pytest.raises(ArtefactError, match="spacing of case case_0000 is not usable"):
        make_plan(altered(make_fingerprint(), spacing_mm_zyx=spacing), PRESETS["nnunet"], file_ending=".nii.gz")


def test_case_without_voxels_is_refused(make_fingerprint: Make) -> None:
    with pytest.raises(ArtefactError, match=r"case_0000 has no voxels: found shape 0×5×5"):
        make_plan(altered(make_fingerprint(), shape_after_crop_zyx=(0, 5, 5)), PRESETS["nnunet"], file_ending=".nii.gz")


def test_fingerprint_without_cases_is_refused(make_fingerprint: Make) -> None:
    with pytest.raises(ArtefactError, match="holds no case"):
        make_plan(make_fingerprint(cases=0), PRESETS["nnunet"], file_ending=".nii.gz")


def test_channels_without_intensities_are_refused(make_fingerprint: Make) -> None:
    with pytest.raises(ArtefactError, match="channels and intensities do not match"):
        make_plan(make_fingerprint().model_copy(update={"intensities": ()}), PRESETS["nnunet"], file_ending=".nii.gz")


def test_images_too_small_for_any_network_are_refused(make_fingerprint: Make) -> None:
    with pytest.raises(ArtefactError, match="too small for a U-Net: found a typical image of 5×6×7 voxels"):
        make_plan(make_fingerprint(shape=(5, 6, 7)), PRESETS["nnunet"], file_ending=".nii.gz")


@pytest.mark.parametrize("memory", [0.0, -8.0, float("nan"), float("inf")])
def test_memory_that_is_no_memory_is_refused(make_fingerprint: Make, memory: float) -> None:
    with pytest.raises(UsageError, match="GPU memory"):
        make_plan(make_fingerprint(), PRESETS["nnunet"], file_ending=".nii.gz", gpu_memory_gb=memory)


def test_memory_too_small_for_any_network_is_refused(make_fingerprint: Make) -> None:
    with pytest.raises(UsageError, match="small enough"):
        make_plan(make_fingerprint(), PRESETS["nnunet"], file_ending=".nii.gz", gpu_memory_gb=0.001)
