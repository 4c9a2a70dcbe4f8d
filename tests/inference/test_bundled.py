"""A bundle as a model: the stages in their order, the folds that are asked for, and the postprocessing that belongs to it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autounet.bundle import Bundle, write_bundle
from autounet.bundle_text import About
from autounet.errors import ArtefactError, UsageError
from autounet.inference.bundled import load_bundle
from autounet.networks.build import build_network
from autounet.plan import Configuration, Plan
from autounet.postprocessing import KeepLargest, Postprocessing
from autounet.runtime import Runtime

MakePlan = Callable[..., tuple[Plan, Configuration]]
CPU = Runtime(device="cpu", precision="fp32", workers=0)
ABOUT = About(name="A cascade", selection="3d_cascade_fullres", created="2026-11-24", origin="autounet")
STEPS = (KeepLargest(values=(1, 2)),)


@pytest.fixture
def cascade(make_plan: MakePlan, tmp_path: Path) -> Path:
    """Two folds of a first stage; of the second stage, which also sees the first one's two labels, fold 0 and 2."""
    plan, one = make_plan()
    first = one.model_copy(update={"name": "3d_lowres"})
    network = one.network.model_copy(update={"in_channels": 3})
    second = one.model_copy(update={"name": ABOUT.selection, "previous_stage": "3d_lowres", "network": network})
    plan = plan.model_copy(update={"configurations": {entry.name: entry for entry in (second, first)}})
    weights = [
        (stage.name, fold, build_network(stage.network, seed=int(fold)).state_dict())
        for stage, folds in ((second, "02"), (first, "01"))
        for fold in folds
    ]
    write_bundle(tmp_path / "cascade.zip", ABOUT, plan, Postprocessing(made_from={}, steps=STEPS), weights)
    return tmp_path / "cascade.zip"


def test_a_cascade_has_two_stages_the_first_one_first(cascade: Path) -> None:
    model = load_bundle(cascade, CPU)
    assert [stage.configuration.name for stage in model.stages] == ["3d_lowres", "3d_cascade_fullres"]
    patches = torch.rand(2, 3, 8, 8, 8)
    networks = [build_network(model.stages[1].configuration.network, seed=seed).eval() for seed in (0, 2)]
    with torch.inference_mode():
        mean = sum(network(patches)[0] for network in networks) / 2
    torch.testing.assert_close(model.stages[1].forward(patches), mean)


def test_the_first_stage_alone_is_a_model_too(cascade: Path) -> None:
    model = load_bundle(cascade, CPU, "3d_lowres", ["1"])
    patches = torch.rand(1, 1, 8, 8, 8)
    (stage,) = model.stages
    with torch.inference_mode():
        torch.testing.assert_close(stage.forward(patches), build_network(stage.configuration.network, seed=1).eval()(patches)[0])


def test_folds_that_are_named_hold_for_both_stages(cascade: Path) -> None:
    assert len(load_bundle(cascade, CPU, folds=["0"]).stages) == 2
    with pytest.raises(UsageError, match=r"fold 2 of 3d_lowres: not in .*found folds 0, 1"):
        load_bundle(cascade, CPU, folds=["2"])


def test_postprocessing_belongs_to_the_model_unless_it_is_not_wanted(cascade: Path) -> None:
    assert load_bundle(cascade, CPU).postprocessing == STEPS
    assert load_bundle(cascade, CPU, postprocess=False).postprocessing == ()


def test_a_file_that_changes_after_it_was_opened_is_noticed(cascade: Path) -> None:
    bundle = Bundle.open(cascade)
    data = cascade.read_bytes()
    position = data.index(b"models/3d_lowres/fold_0/weights.safetensors") + 2000
    cascade.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
    with pytest.raises(ArtefactError, match="3d_lowres/fold_0"):
        load_bundle(bundle, CPU)
