"""What is typed after the flags of ``plan``, and what becomes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from autounet.cli.wanted import Choices, Wanted
from autounet.errors import UsageError
from autounet.fingerprint import CaseFingerprint, Fingerprint, Intensities
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Overrides, PlanRequest
from autounet.planners.presets import PRESETS

VALUES = Intensities(mean=0.0, std=1.0, min=0.0, max=1.0, median=0.0, percentile_00_5=0.0, percentile_99_5=1.0)


def fingerprint(ndim: int = 3, channels: tuple[str, ...] = ("CT", "PET")) -> Fingerprint:
    case = CaseFingerprint(
        case="a", shape_zyx=(1, 64, 64), shape_after_crop_zyx=(1, 64, 64), spacing_mm_zyx=(999.0, 0.5, 0.5), class_voxels={}
    )
    return Fingerprint(
        made_from={},
        dataset="x",
        ndim=ndim,
        channels=channels,
        labels=LabelSpec(classes=(StructureClass(name="a", values=(1,)),)),
        cases=(case,),
        intensities=(VALUES,) * len(channels),
        median_relative_size_after_crop=1.0,
    )


VOLUMES, PLANAR = fingerprint(3), fingerprint(2)


@pytest.mark.parametrize(
    ("choices", "data", "expected"),
    [
        ({"spacing": "2.5,1,1"}, VOLUMES, {"spacing_mm_zyx": (2.5, 1.0, 1.0)}),
        ({"spacing": " 2.5x1×1"}, VOLUMES, {"spacing_mm_zyx": (2.5, 1.0, 1.0)}),
        ({"spacing": "0.5,0.25"}, PLANAR, {"spacing_mm_zyx": (999.0, 0.5, 0.25)}),
        ({"patch_size": ["64,96,96"]}, VOLUMES, {"patch_size": {"3d_fullres": (64, 96, 96)}}),
        ({"patch_size": ["64,96"]}, VOLUMES, {"patch_size": {"2d": (64, 96)}}),
        ({"patch_size": ["3d_lowres=8,8,8", "2d=16x16"]}, VOLUMES, {"patch_size": {"3d_lowres": (8, 8, 8), "2d": (16, 16)}}),
        ({"batch_size": ["4"]}, VOLUMES, {"batch_size": {"3d_fullres": 4}}),
        ({"batch_size": ["4"]}, PLANAR, {"batch_size": {"2d": 4}}),
        ({"batch_size": ["2d=8", "3"]}, VOLUMES, {"batch_size": {"2d": 8, "3d_fullres": 3}}),
        ({"normalization": ["rescale"]}, VOLUMES, {"normalization": ("rescale", "rescale")}),
        ({"normalization": ["1=zscore+mask"]}, VOLUMES, {"normalization": (None, "zscore+mask")}),
        ({"normalization": ["PET=NONE", "CT=ct"]}, VOLUMES, {"normalization": ("ct", "none")}),
        ({"mirror_axes": "z,Y"}, VOLUMES, {"mirror_axes_zyx": (0, 1)}),
        ({"mirror_axes": "xz"}, VOLUMES, {"mirror_axes_zyx": (0, 2)}),
        ({"mirror_axes": "none"}, VOLUMES, {"mirror_axes_zyx": ()}),
        ({"mirror_axes": "all"}, PLANAR, {"mirror_axes_zyx": (1, 2)}),
        ({"features": "24"}, VOLUMES, {"features": (24,)}),
        ({"features": "16,48"}, VOLUMES, {"features": (16, 48)}),
        ({"features": "rule", "spacing": "rule", "mirror_axes": "rule", "normalization": ["rule"]}, VOLUMES, {}),
        ({"patch_size": ["3d_lowres=rule", "rule"], "batch_size": ["rule"]}, VOLUMES, {}),
    ],
)
def test_flags_become_overrides(choices: dict[str, Any], data: Fingerprint, expected: dict[str, Any]) -> None:
    assert Choices(**choices).overrides(data, Overrides()) == Overrides(**expected)


@pytest.mark.parametrize(
    ("choices", "data", "message"),
    [
        ({"spacing": "1,1"}, VOLUMES, "--spacing 1,1: 2 numbers: expected 3, in mm: z,y,x"),
        ({"spacing": "1,1,1"}, PLANAR, "expected 2, in mm: y,x"),
        ({"spacing": "1,0,1"}, VOLUMES, "--spacing 1,0,1: not positive numbers"),
        ({"spacing": "1,nan,1"}, VOLUMES, "not positive numbers"),
        ({"spacing": "1;1;1"}, VOLUMES, "not positive numbers"),
        ({"patch_size": ["64,96.5,96"]}, VOLUMES, "not whole numbers above 0"),
        ({"patch_size": ["inf,8,8"]}, VOLUMES, "not whole numbers above 0"),
        ({"batch_size": ["2d="]}, VOLUMES, "not whole numbers above 0"),
        ({"batch_size": ["1,2"]}, VOLUMES, "--batch-size 1,2: 2 numbers: expected one"),
        ({"batch_size": ["-1"]}, VOLUMES, "not whole numbers above 0"),
        ({"normalization": ["zzz"]}, VOLUMES, "no such scheme: expected one of zscore, zscore"),
        ({"normalization": ["MRI=ct"]}, VOLUMES, r"no such channel: expected 0 \(CT\), 1 \(PET\)"),
        ({"mirror_axes": "w"}, VOLUMES, "--mirror-axes w: not axes"),
        ({"mirror_axes": "zz"}, VOLUMES, "not axes"),
        ({"mirror_axes": ""}, VOLUMES, "not axes"),
        ({"mirror_axes": "z,x"}, PLANAR, "planar images have no axis z"),
        ({"features": "0"}, VOLUMES, "--features 0: not whole numbers above 0"),
        ({"features": "1e300"}, VOLUMES, "not whole numbers above 0"),
        ({"batch_size": ["0"]}, VOLUMES, "expected such as 4 or 3d_fullres=4"),
        ({"spacing": "1e300,1,1"}, VOLUMES, "not positive numbers of mm"),
    ],
)
def test_nonsense_is_refused(choices: dict[str, Any], data: Fingerprint, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Choices(**choices).overrides(data, Overrides())


def test_later_choices_come_on_top_of_earlier_ones() -> None:
    before = Overrides(patch_size={"2d": (64, 64)}, normalization=("ct", None), mirror_axes_zyx=(0,))
    after = Choices(patch_size=["8,8,8"], normalization=["1=none"]).overrides(VOLUMES, before)
    assert after == Overrides(patch_size={"2d": (64, 64), "3d_fullres": (8, 8, 8)}, normalization=("ct", "none"), mirror_axes_zyx=(0,))


THERE = PlanRequest(
    preset=PRESETS["small"], gpu_memory_gb=2.0, overrides=Overrides(features=(8,), batch_size={"2d": 3}, spacing_mm_zyx=(1.0, 1.0, 1.0))
)


def test_a_plan_that_is_there_is_asked_for_again() -> None:
    assert Wanted().request(VOLUMES, THERE) == THERE
    assert Wanted(preset="small").request(VOLUMES, THERE) == THERE
    assert Wanted(gpu_memory_gb=3.0).request(VOLUMES, THERE) == THERE.model_copy(update={"gpu_memory_gb": 3.0})


def test_another_preset_keeps_what_is_about_the_data() -> None:
    request = Wanted(preset="resenc-m").request(VOLUMES, THERE)
    assert request == PlanRequest(preset=PRESETS["resenc-m"], overrides=Overrides(spacing_mm_zyx=(1.0, 1.0, 1.0)))


def test_rule_takes_an_earlier_choice_back() -> None:
    before = Overrides(patch_size={"2d": (64, 64), "3d_lowres": (8, 8, 8)}, normalization=("ct", None), features=(8,))
    after = Choices(patch_size=["3d_lowres=rule"], normalization=["0=rule"], features="rule").overrides(VOLUMES, before)
    assert after == Overrides(patch_size={"2d": (64, 64)})


def test_presets_of_one_name_from_two_files_are_two_presets(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "mine.json" for folder in ("a", "b")]
    for path, epochs in zip(paths, (5, 6), strict=True):
        path.parent.mkdir()
        path.write_text(json.dumps({"base": "small", "epochs": epochs}))
    first = Wanted(preset=str(paths[0]), choices=Choices(features="8")).request(VOLUMES, None)
    assert Wanted(preset=str(paths[0])).request(VOLUMES, first).overrides.features == (8,)
    second = Wanted(preset=str(paths[1])).request(VOLUMES, first)
    assert (second.preset.name, second.preset.epochs, second.overrides) == ("mine", 6, Overrides())


def test_reset_forgets_everything() -> None:
    assert Wanted(reset=True).request(VOLUMES, THERE) == PlanRequest(preset=PRESETS["nnunet"])
    assert Wanted(reset=True, preset="small").request(VOLUMES, THERE) == PlanRequest(preset=PRESETS["small"])


def test_a_plan_knows_its_preset_even_if_it_came_from_a_file() -> None:
    own = PRESETS["small"].model_copy(update={"name": "mine"})
    assert Wanted().request(VOLUMES, PlanRequest(preset=own)).preset == own
