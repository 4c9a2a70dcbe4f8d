"""What the user decides in place of the rules: taken as it is where it works, refused with the nearest that works where not."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autounet.errors import UsageError
from autounet.fingerprint import Fingerprint
from autounet.networks.cost import parameters
from autounet.plan import Decision, Overrides, Plan
from autounet.planners.chosen import nearest_that_works
from autounet.planners.planner import make_plan
from autounet.planners.presets import PRESETS

Make = Callable[..., Fingerprint]


def plan(fingerprint: Fingerprint, preset: str = "nnunet", memory: float | None = None, **overrides: Any) -> Plan:
    return make_plan(fingerprint, PRESETS[preset], file_ending=".nii.gz", gpu_memory_gb=memory, overrides=Overrides(**overrides))


def decision(made: Plan, name: str, configuration: str | None = None) -> Decision:
    decisions = made.decisions if configuration is None else made.configurations[configuration].decisions
    return next(entry for entry in decisions if entry.name == name)


def test_nothing_chosen_changes_nothing(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint()
    assert plan(fingerprint).configurations == make_plan(fingerprint, PRESETS["nnunet"], file_ending=".nii.gz").configurations


def test_spacing_is_taken_and_everything_follows_from_it(make_fingerprint: Make) -> None:
    """128 voxels of 1 mm become 64 of 2 mm; along x, 4 mm make 32 of them, and the coarse x comes first."""
    made = plan(make_fingerprint(shape=(128,) * 3), spacing_mm_zyx=(2.0, 2.0, 4.0))
    full = made.configurations["3d_fullres"]
    assert made.transpose == (2, 0, 1)
    assert full.spacing_mm == (4.0, 2.0, 2.0)
    assert full.median_shape == (32.0, 64.0, 64.0)
    chosen = decision(made, "target spacing")
    assert (chosen.value, chosen.chosen_by) == ("2×2×4 mm", "you")
    assert chosen.reason.startswith("by rule it would be 1×1×1 mm: median of 20 images")
    assert decision(made, "axis order").chosen_by == "rule"


def test_patch_is_taken_with_its_network(make_fingerprint: Make) -> None:
    made = plan(make_fingerprint(shape=(128,) * 3), patch_size={"3d_fullres": (64, 96, 32)})
    full = made.configurations["3d_fullres"]
    assert full.patch_size == (64, 96, 32)
    assert [max(stride[axis] for stride in full.network.strides) for axis in range(3)] == [2, 2, 2]
    assert decision(made, "patch size", "3d_fullres").chosen_by == "you"
    assert decision(made, "patch size", "2d").chosen_by == "rule"


@pytest.mark.parametrize(
    ("wanted", "nearest"),
    [
        ((50, 56, 40), "48×56×40"),  # 50 would be halved three times: 48 and 56 can be
        ((40, 55, 41), "40×56×40"),
        ((3, 3, 3), "4×8×8"),  # two axes with twice four voxels can be halved
        ((7, 7, 7), "7×8×8"),
        ((129, 128, 128), "128×128×128"),  # 129 is halved five times: 128 and 160 can be
    ],
)
def test_patch_that_cannot_be_halved_is_refused_with_the_nearest(make_fingerprint: Make, wanted: tuple[int, ...], nearest: str) -> None:
    with pytest.raises(UsageError, match=f"expected {nearest}, the nearest that can") as caught:
        plan(make_fingerprint(shape=(128,) * 3), patch_size={"3d_fullres": wanted})
    assert caught.value.remedy == f"--patch-size 3d_fullres={nearest.replace('×', ',')}"


def test_patch_that_does_not_fit_is_refused_with_one_that_does_and_with_the_memory_it_needs(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(300,) * 3)
    with pytest.raises(UsageError, match="does not fit into 8 GB") as caught:
        plan(fingerprint, patch_size={"3d_fullres": (256,) * 3})
    remedy = caught.value.remedy or ""
    size, memory = remedy.split(", --gpu-memory ")
    nearest = tuple(int(edge) for edge in size.removeprefix("--patch-size 3d_fullres=").split(","))
    assert plan(fingerprint, patch_size={"3d_fullres": nearest}).configurations["3d_fullres"].patch_size == nearest
    needed = float(memory.split(",")[0])
    assert plan(fingerprint, memory=needed, patch_size={"3d_fullres": (256,) * 3}).configurations["3d_fullres"].patch_size == (256,) * 3
    with pytest.raises(UsageError, match="does not fit"):
        plan(fingerprint, memory=needed * 0.99, patch_size={"3d_fullres": (256,) * 3})


@given(wanted=st.tuples(*[st.integers(1, 200)] * 3), spacing=st.tuples(*[st.floats(0.2, 6.0)] * 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_nearest_patch_always_works(make_fingerprint: Make, wanted: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    fingerprint = make_fingerprint(tuple(sorted(spacing, reverse=True)), (200, 200, 200))
    try:
        made = plan(fingerprint, patch_size={"3d_fullres": wanted})
    except UsageError as error:
        remedy = error.remedy or ""
        text = remedy.split(", ")[0].removeprefix("--patch-size 3d_fullres=")
        wanted = tuple(int(edge) for edge in text.split(","))
        made = plan(fingerprint, patch_size={"3d_fullres": wanted})
    assert made.configurations["3d_fullres"].patch_size == wanted


def test_patch_of_wrong_dimension(make_fingerprint: Make) -> None:
    with pytest.raises(UsageError, match="patch size 64×64 of 3d_fullres: 2 axes: expected 3 sizes"):
        plan(make_fingerprint(), patch_size={"3d_fullres": (64, 64)})


def test_batch_makes_the_patch_give_way(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(300,) * 3)
    by_rule, made = plan(fingerprint).configurations["3d_fullres"], plan(fingerprint, batch_size={"3d_fullres": 6})
    full = made.configurations["3d_fullres"]
    assert by_rule.batch_size == 2
    assert full.batch_size == 6
    assert max(full.patch_size) < max(by_rule.patch_size)
    assert decision(made, "batch size", "3d_fullres").chosen_by == "you"
    assert plan(fingerprint, batch_size={"3d_fullres": 1}).configurations["3d_fullres"].patch_size == by_rule.patch_size


def test_batch_that_leaves_no_room_for_patches_is_refused_with_the_largest_that_does(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(300,) * 3)
    with pytest.raises(UsageError, match=r"at most [0-9]+, the nearest that can") as caught:
        plan(fingerprint, batch_size={"3d_fullres": 100_000})
    most = int((caught.value.remedy or "").split(",")[0].removeprefix("--batch-size 3d_fullres="))
    assert plan(fingerprint, batch_size={"3d_fullres": most}).configurations["3d_fullres"].batch_size == most
    with pytest.raises(UsageError, match="the nearest that can"):
        plan(fingerprint, batch_size={"3d_fullres": most + 1})


def test_batch_of_a_chosen_patch_must_fit(make_fingerprint: Make) -> None:
    with pytest.raises(UsageError, match="does not fit 50 times into 8 GB"):
        plan(make_fingerprint(shape=(300,) * 3), patch_size={"3d_fullres": (96,) * 3}, batch_size={"3d_fullres": 50})


def test_a_cascade_is_planned_like_the_full_resolution(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(512,) * 3)
    made = plan(fingerprint, patch_size={"3d_fullres": (64,) * 3, "3d_lowres": (96,) * 3}, batch_size={"3d_fullres": 3})
    sizes = {name: (entry.patch_size[0], entry.batch_size) for name, entry in made.configurations.items() if name != "2d"}
    assert sizes["3d_fullres"] == sizes["3d_cascade_fullres"] == (64, 3)
    assert sizes["3d_lowres"][0] == 96
    with pytest.raises(UsageError, match="Name 3d_fullres instead"):
        plan(fingerprint, batch_size={"3d_cascade_fullres": 2})


def test_configuration_that_is_not_planned(make_fingerprint: Make) -> None:
    with pytest.raises(UsageError, match="batch size of 3d_lowres: no such configuration in this plan: expected 2d or 3d_fullres"):
        plan(make_fingerprint(), batch_size={"3d_lowres": 2})


def test_features_are_taken_and_go_on_doubling(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(128,) * 3)
    assert plan(fingerprint, features=(24,)).configurations["3d_fullres"].network.features == (24, 48, 96, 192, 320, 320)
    made = plan(fingerprint, features=(10, 30, 50))
    assert made.configurations["3d_fullres"].network.features == (10, 30, 50, 100, 200, 320)
    assert decision(made, "features", "3d_fullres").chosen_by == "you"


def test_features_that_no_memory_holds_are_refused_with_the_nearest(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(128,) * 3)
    with pytest.raises(UsageError, match=r"features 9000 cannot work: .*the nearest that can") as caught:
        plan(fingerprint, features=(9000,))
    nearest = int((caught.value.remedy or "").removeprefix("--features "))
    assert 500 < nearest < 9000
    made = plan(fingerprint, features=(nearest,))
    assert all(12 * parameters(entry.network) <= 8e9 for entry in made.configurations.values())


@pytest.mark.parametrize(("wanted", "why"), [((60.0,) * 3, "too small for a U-Net"), ((1e-4,) * 3, "the largest image would have")])
def test_spacing_that_cannot_work_is_refused_with_the_nearest(make_fingerprint: Make, wanted: tuple[float, ...], why: str) -> None:
    fingerprint = make_fingerprint(shape=(128,) * 3)
    with pytest.raises(UsageError, match=why) as caught:
        plan(fingerprint, spacing_mm_zyx=wanted)
    nearest = tuple(float(value) for value in (caught.value.remedy or "").removeprefix("--spacing ").split(","))
    assert plan(fingerprint, spacing_mm_zyx=nearest).configurations
    beyond = tuple(value * (1.05 if wanted[0] > 1 else 0.95) for value in nearest)
    with pytest.raises(UsageError):
        plan(fingerprint, spacing_mm_zyx=beyond)


def test_normalisation_is_taken_for_its_channel(make_fingerprint: Make) -> None:
    made = plan(make_fingerprint(channels=("MRI", "PET")), normalization=("zscore+mask", None))
    assert [(entry.scheme, entry.use_mask) for entry in made.configurations["2d"].normalization] == [("zscore", True), ("zscore", False)]
    assert decision(made, "normalisation of channel 0 (MRI)").chosen_by == "you"
    assert decision(made, "normalisation of channel 1 (PET)").chosen_by == "rule"
    (ct,) = plan(make_fingerprint(), normalization=("ct",)).configurations["2d"].normalization
    assert (ct.lower, ct.upper, ct.mean, ct.std) == (-50.0, 250.0, 100.0, 20.0)


def test_mirroring_follows_the_axes_into_the_networks_order(make_fingerprint: Make) -> None:
    """x is the coarse axis and comes first; it may not be mirrored. A 2D network sees z and y: both may."""
    made = plan(make_fingerprint((1.0, 1.0, 5.0), (200, 200, 30)), mirror_axes_zyx=(0, 1))
    assert made.transpose == (2, 0, 1)
    assert made.configurations["3d_fullres"].mirror_axes == (1, 2)
    assert made.configurations["2d"].mirror_axes == (0, 1)
    assert decision(made, "mirroring").chosen_by == "you"
    none = plan(make_fingerprint(), mirror_axes_zyx=())
    assert none.configurations["3d_fullres"].mirror_axes == ()


def test_memory_is_planned_for(make_fingerprint: Make) -> None:
    asked, by_rule = plan(make_fingerprint(), memory=24), plan(make_fingerprint())
    assert (decision(asked, "planned for").value, decision(asked, "planned for").chosen_by) == ("24 GB of GPU memory", "you")
    assert (decision(by_rule, "planned for").value, decision(by_rule, "planned for").chosen_by) == ("8 GB of GPU memory", "rule")


def test_request_lies_in_the_plan(make_fingerprint: Make) -> None:
    made = plan(make_fingerprint(channels=("MRI",)), memory=6.0, normalization=("rescale",), batch_size={"2d": 7}, mirror_axes_zyx=(1,))
    read = Plan.from_json(made.to_json(), "plan")
    assert read == made
    request = read.request
    again = make_plan(
        make_fingerprint(), request.preset, file_ending=".nii.gz", gpu_memory_gb=request.gpu_memory_gb, overrides=request.overrides
    )
    assert again == made


def test_nearest_that_works_finds_the_edge() -> None:
    found = nearest_that_works((10.0, 20.0), lambda values: values[0] <= 3.7)
    assert found is not None
    assert found[0] == pytest.approx(3.7, rel=0.02)
    assert found[1] == pytest.approx(2 * found[0], rel=0.01)
    assert nearest_that_works((1.0,), lambda values: False) is None


def test_extremes_are_refused_at_once(make_fingerprint: Make) -> None:
    """Sizes that no search may walk through voxel by voxel, and a unit that was mistaken."""
    fingerprint = make_fingerprint(shape=(128,) * 3)
    for wanted in ((30_000_000, 8, 8), (2**31 - 1, 1, 1)):
        with pytest.raises(UsageError, match="patch size"):
            plan(fingerprint, patch_size={"3d_fullres": wanted})
    with pytest.raises(UsageError, match="a typical image would have no voxel along axis 2"):
        plan(fingerprint, spacing_mm_zyx=(1.0, 1.0, 1000.0))


def test_memory_that_is_too_little_for_any_configuration_names_what_is_enough_for_all(make_fingerprint: Make) -> None:
    fingerprint = make_fingerprint(shape=(128,) * 3)
    with pytest.raises(UsageError, match="1e-06 GB of memory are too little") as caught:
        plan(fingerprint, memory=1e-6)
    assert plan(fingerprint, memory=float((caught.value.remedy or "").removeprefix("--gpu-memory "))).configurations


def test_what_was_chosen_for_a_configuration_that_is_gone_can_be_taken_back(make_fingerprint: Make) -> None:
    """The spacing is not to blame, though it is what was asked for last."""
    with pytest.raises(UsageError, match="patch size of 3d_lowres: no such configuration") as caught:
        plan(make_fingerprint(shape=(128,) * 3), patch_size={"3d_lowres": (16, 16, 16)}, spacing_mm_zyx=(2.0, 2.0, 2.0))
    assert "--patch-size 3d_lowres=rule" in (caught.value.remedy or "")
