"""Which trained folds predict, and their mean."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from autounet.checkpoint import save_weights
from autounet.errors import ArtefactError, UsageError
from autounet.inference.model import TrainedFold, check_plan, choose_before, choose_trained, find_trained, load_folds
from autounet.inference.passes import Forward
from autounet.labels import LabelSpec
from autounet.layout import RunLayout
from autounet.networks.build import build_network
from autounet.plan import Configuration, Normalization, Plan
from autounet.runtime import Runtime

MakePlan = Callable[..., tuple[Plan, Configuration]]
FP32 = Runtime(device="cpu", precision="fp32")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path / "Dataset001_Test")


def train(layout: RunLayout, configuration: str, *folds: str) -> None:
    """Leaves the files that trained folds leave."""
    for fold in folds:
        path = layout.fold(configuration, fold).weights
        path.parent.mkdir(parents=True)
        path.touch()


def chosen(layout: RunLayout, configuration: str | None = None, folds: list[str] | None = None) -> list[tuple[str, str]]:
    return [(entry.configuration, entry.fold) for entry in choose_trained(layout, configuration, folds)]


def test_all_cross_validation_folds_of_3d_fullres(layout: RunLayout) -> None:
    train(layout, "2d", "0", "1", "2")
    train(layout, "3d_fullres", "1", "0", "all")
    assert chosen(layout) == [("3d_fullres", "0"), ("3d_fullres", "1")]


def test_the_only_configuration_there_is(layout: RunLayout) -> None:
    train(layout, "2d", "3")
    assert chosen(layout) == [("2d", "3")]


def test_what_is_named(layout: RunLayout) -> None:
    train(layout, "2d", "0", "1", "2", "all")
    train(layout, "3d_fullres", "0")
    assert chosen(layout, "2d") == [("2d", "0"), ("2d", "1"), ("2d", "2")]
    assert chosen(layout, "2d", ["2", "0"]) == [("2d", "0"), ("2d", "2")]
    assert chosen(layout, "2d", ["all"]) == [("2d", "all")]


def test_the_model_on_all_cases_where_there_is_no_other(layout: RunLayout) -> None:
    train(layout, "2d", "all")
    assert chosen(layout) == [("2d", "all")]


def test_a_training_that_has_not_ended_does_not_count(layout: RunLayout) -> None:
    train(layout, "2d", "0")
    running = layout.fold("2d", "1")
    running.root.mkdir(parents=True)
    running.weights_best.touch()
    running.resume.touch()
    assert [entry.fold for entry in find_trained(layout)] == ["0"]


def test_nothing_trained(layout: RunLayout) -> None:
    with pytest.raises(UsageError, match="no trained model") as caught:
        choose_trained(layout, None, None)
    assert caught.value.exit_code == 2


def test_not_what_was_asked_for(layout: RunLayout) -> None:
    train(layout, "2d", "0", "1")
    with pytest.raises(UsageError, match="-c 3d_fullres: not trained: found 2d"):
        choose_trained(layout, "3d_fullres", None)
    with pytest.raises(UsageError, match="fold 3, 4 of 2d: not trained: found folds 0, 1"):
        choose_trained(layout, "2d", ["0", "3", "4"])


@pytest.fixture
def cascade(make_plan: MakePlan) -> Plan:
    """A low resolution, and a second stage that is told its labels, one and two."""
    plan, low = make_plan()
    low = low.model_copy(update={"name": "3d_lowres"})
    network = low.network.model_copy(update={"in_channels": 3})
    high = low.model_copy(update={"name": "3d_cascade_fullres", "network": network, "previous_stage": "3d_lowres"})
    return plan.model_copy(update={"configurations": {low.name: low, high.name: high}})


@pytest.mark.parametrize(
    ("folds", "expected"), [(None, ["0", "1", "2"]), (["0"], ["0"]), (["0", "1"], ["0", "1"]), (["all"], ["0", "1", "2"])]
)
def test_which_folds_of_its_first_stage_a_cascade_takes(layout: RunLayout, cascade: Plan, folds: list[str], expected: list[str]) -> None:
    """All of cross-validation, also for a second stage of fewer; those that are named; and instead of ``all``, where that is missing."""
    train(layout, "3d_lowres", "0", "1", "2")
    train(layout, "3d_cascade_fullres", "0", "1", "all")
    second = choose_trained(layout, "3d_cascade_fullres", folds)
    assert [entry.configuration for entry in second] == ["3d_cascade_fullres"] * len(second)
    before = choose_before(layout, cascade, second, folds)
    assert [(entry.configuration, entry.fold) for entry in before] == [("3d_lowres", fold) for fold in expected]
    assert choose_before(layout, cascade, choose_trained(layout, "3d_lowres", None), None) == []


def test_a_cascade_on_all_cases_takes_a_first_stage_on_all_cases(layout: RunLayout, cascade: Plan) -> None:
    train(layout, "3d_lowres", "0", "all")
    train(layout, "3d_cascade_fullres", "all")
    second = choose_trained(layout, "3d_cascade_fullres", ["all"])
    assert [entry.fold for entry in choose_before(layout, cascade, second, ["all"])] == ["all"]


def test_a_cascade_without_its_first_stage(layout: RunLayout, cascade: Plan) -> None:
    train(layout, "3d_cascade_fullres", "0")
    with pytest.raises(UsageError, match="3d_lowres: not trained"):
        choose_before(layout, cascade, choose_trained(layout, "3d_cascade_fullres", None), None)


def test_a_cascade_has_two_stages_and_its_second_alone_has_one(layout: RunLayout, cascade: Plan) -> None:
    low, high = cascade.configurations.values()
    for fold in ("0", "1"):
        save(layout.fold(low.name, fold).weights, cascade, low, int(fold))
    save(layout.fold(high.name, "0").weights, cascade, high, 5)
    second = choose_trained(layout, high.name, None)
    before = choose_before(layout, cascade, second, None)
    model = load_folds(cascade, second, FP32, before)
    assert [stage.configuration.name for stage in model.stages] == [low.name, high.name]
    patches = torch.rand(1, 1, 8, 8, 8)
    alone = load_folds(cascade, before, FP32)
    torch.testing.assert_close(model.stages[0].forward(patches), alone.stages[0].forward(patches))
    assert model.stages[1].forward(torch.rand(1, 3, 8, 8, 8)).shape == (1, 3, 8, 8, 8)
    assert len(load_folds(cascade, second, FP32).stages) == 1
    both = load_folds(cascade, [*before, *second], FP32, before)  # an ensemble of the low resolution with the cascade on it
    assert [len(member.stages) for member in both.members] == [1, 2]


def save(path: Path, plan: Plan, configuration: Configuration, seed: int) -> Path:
    save_weights(path, build_network(configuration.network, seed).state_dict(), {"plan": plan.recipe(configuration.name)})
    return path


def forward_of(plan: Plan, configuration: Configuration, files: Sequence[Path], runtime: Runtime = FP32) -> Forward:
    (stage,) = load_folds(plan, [TrainedFold(configuration.name, str(fold), file) for fold, file in enumerate(files)], runtime).stages
    return stage.forward


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0)])
def test_an_ensemble_is_the_mean_of_its_folds_scores(make_plan: MakePlan, tmp_path: Path, spacing: tuple[float, ...]) -> None:
    plan, configuration = make_plan(spacing)
    files = [save(tmp_path / f"{seed}.safetensors", plan, configuration, seed) for seed in (1, 2, 3)]
    patches = torch.randn(2, 1, *configuration.patch_size, generator=torch.Generator().manual_seed(0))
    scores = forward_of(plan, configuration, files)(patches)
    with torch.no_grad():
        expected = sum(build_network(configuration.network, seed).eval()(patches)[0] for seed in (1, 2, 3)) / 3
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
    alone = forward_of(plan, configuration, files[:1])(patches)
    torch.testing.assert_close(alone, build_network(configuration.network, 1).eval()(patches)[0].detach())


def test_lower_precision_is_close_and_comes_back_as_float32(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan()
    file = save(tmp_path / "weights.safetensors", plan, configuration, 1)
    patches = torch.randn(1, 1, *configuration.patch_size, generator=torch.Generator().manual_seed(0))
    exact = forward_of(plan, configuration, [file])(patches)
    coarse = forward_of(plan, configuration, [file], Runtime(device="cpu", precision="bf16"))(patches)
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, rtol=0.05, atol=0.05)


def test_weights_of_another_plan_are_refused(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan()
    file = save(tmp_path / "weights.safetensors", plan, configuration, 1)
    check_plan(file, plan, configuration.name)
    for other, _ in (
        make_plan((1.0, 1.0, 2.0)),
        make_plan(transpose=(1, 0, 2)),
        make_plan(schemes=(Normalization(scheme="zscore"),)),
        make_plan(labels=LabelSpec(classes=plan.labels.classes[::-1])),
        make_plan(patch=(16, 16, 16)),
    ):
        with pytest.raises(ArtefactError, match="trained with another plan") as caught:
            forward_of(other, other.configurations[configuration.name], [file])
        assert "restore that plan.json" in str(caught.value).lower()


def test_a_configuration_that_the_plan_lost_is_refused(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan()
    file = save(tmp_path / "weights.safetensors", plan, configuration, 0)
    other = plan.model_copy(update={"configurations": {}})
    with pytest.raises(ArtefactError, match=r"not in plan\.json: found 3d_fullres"):
        load_folds(other, [TrainedFold("3d_fullres", "0", file)], FP32)


def test_reasons_and_other_configurations_do_not_matter(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan()
    file = save(tmp_path / "weights.safetensors", plan, configuration, 1)
    other = plan.model_copy(update={"configurations": {**plan.configurations, "2d": configuration}, "epochs": 99, "preset": "small"})
    check_plan(file, other, configuration.name)


def test_damaged_and_missing_weights(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan()
    file = save(tmp_path / "weights.safetensors", plan, configuration, 1)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="weights cannot be read"):
        forward_of(plan, configuration, [file])
    with pytest.raises(ArtefactError, match="weights cannot be read"):
        forward_of(plan, configuration, [tmp_path / "none.safetensors"])


def test_weights_that_do_not_fit_the_network(make_plan: MakePlan, tmp_path: Path) -> None:
    plan, configuration = make_plan()
    weights = build_network(configuration.network).state_dict()
    del weights["heads.0.bias"]
    save_weights(tmp_path / "weights.safetensors", weights, {"plan": plan.recipe(configuration.name)})
    with pytest.raises(ArtefactError, match="weights do not fit the plan's network"):
        forward_of(plan, configuration, [tmp_path / "weights.safetensors"])
