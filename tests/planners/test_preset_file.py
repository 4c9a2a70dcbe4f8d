"""Presets of users' own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autounet.errors import UsageError
from autounet.fingerprint import Fingerprint
from autounet.planners.planner import make_plan
from autounet.planners.preset_file import find_preset
from autounet.planners.presets import PRESETS
from autounet.preset import Preset


def write(folder: Path, content: Any, name: str = "mine.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_built_in_by_name() -> None:
    assert find_preset("resenc-m") is PRESETS["resenc-m"]


def test_every_built_in_preset_can_be_written_down() -> None:
    for preset in PRESETS.values():
        assert Preset.model_validate_json(preset.model_dump_json()) == preset


def test_file_changes_some_numbers_of_its_base(tmp_path: Path) -> None:
    changed = {"base": "resenc-m", "gpu_memory_gb": 16, "volumetric": {"features": 1_400_000_000}, "optimizer": {"momentum": 0.9}}
    preset = find_preset(str(write(tmp_path, changed)))
    base = PRESETS["resenc-m"]
    assert preset.name == "mine"
    assert (preset.kind, preset.blocks_encoder, preset.planar) == (base.kind, base.blocks_encoder, base.planar)
    assert base.volumetric is not None
    assert preset.volumetric == base.volumetric.model_copy(update={"features": 1_400_000_000})
    assert (preset.optimizer.momentum, preset.optimizer.learning_rate) == (0.9, 0.01)
    assert preset.summary == "resenc-m, with changes: gpu_memory_gb, optimizer, volumetric"


def test_base_is_nnunet_unless_named(tmp_path: Path) -> None:
    preset = find_preset(str(write(tmp_path, {"name": "wide", "features": [48]})))
    assert preset == PRESETS["nnunet"].model_copy(
        update={"name": "wide", "features": (48,), "summary": "nnunet, with changes: features, name"}
    )


def test_plans_are_made_with_it(tmp_path: Path, make_fingerprint: Callable[..., Fingerprint]) -> None:
    preset = find_preset(str(write(tmp_path, {"features": [8], "epochs": 3, "volumetric": {"max_features": 20}})))
    plan = make_plan(make_fingerprint(), preset, file_ending=".mha")
    assert (plan.preset, plan.epochs) == ("mine", 3)
    assert set(plan.configurations["3d_fullres"].network.features) == {8, 16, 20}
    assert plan.request.preset == preset


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "not a preset: found a JSON list"),
        ({"base": "huge"}, "no such 'base': found 'huge', expected one of nnunet, small"),
        ({"base": ["nnunet"]}, "no such 'base'"),
        ({"name": "small"}, "has the name of a built-in preset"),
        ({"feature": [3]}, "no field 'feature': expected base or name, summary, kind"),
        ({"planar": {"batches": 3}}, r"no field 'planar\.batches'"),
        ({"epochs": 0}, "malformed at 'epochs': found Input should be greater than 0"),
        ({"features": []}, "malformed at 'features'"),
        ({"epochs": "many"}, "malformed at 'epochs': found Input should be a valid integer"),
        ({"kind": "transformer"}, "malformed at 'kind': found Input should be 'plain', 'residual' or 'unet2015'"),
        ({"kind": "unet2015"}, "'unpadded' belongs to the kind unet2015"),
        ({"base": "unet2015", "kind": "plain"}, "'unpadded' belongs to the kind unet2015"),
        ({"min_batch": 8, "planar": {"max_batch": 4}}, "'max_batch' of planar is below 'min_batch'"),
        ({"name": [1]}, "malformed at 'name'"),
        ({"epochs": 10**400}, "malformed at 'epochs'"),
        ({"blocks_encoder": [100_000]}, r"malformed at 'blocks_encoder\.0'"),
        ({"min_batch": 10**6}, "'max_batch' of|'patch_batch' of planar is below 'min_batch'"),
        ({"gpu_memory_gb": float("inf")}, "malformed at 'gpu_memory_gb'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_preset(str(write(tmp_path, content)))


def test_neither_a_name_nor_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such preset: expected one of nnunet, .*, or a \.json file"):
        find_preset("nnunett")
    with pytest.raises(UsageError, match="cannot be read: found No such file"):
        find_preset(str(tmp_path / "missing.json"))
