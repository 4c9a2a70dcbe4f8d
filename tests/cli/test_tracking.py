"""``--track``: names, and trackers as the command line sets them up."""

import os
from pathlib import Path

import pytest

from autounet.cli.tracking import ENVIRONMENT, told_of, told_scores, tracked, tracker_names
from autounet.errors import UsageError
from autounet.evaluation.overlap import OverlapScore
from autounet.evaluation.scores import Scores
from autounet.labels import LabelSpec, StructureClass
from autounet.layout import FoldLayout
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.preset import NNUNET_OPTIMIZER
from autounet.training.schedule import Length

CONFIGURATION = Configuration(
    name="3d_fullres", spacing_mm=(3.0, 0.75, 0.75), median_shape=(8.0, 8.0, 8.0), patch_size=(4, 8, 8), batch_size=2, batch_dice=False,
    normalization=(Normalization(scheme="zscore"),), mirror_axes=(0, 1, 2), decisions=(),
    network=NetworkSpec(
        kind="plain", ndim=3, in_channels=1, outputs=2, features=(2, 3), strides=((1, 1, 1), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3)), blocks_encoder=(1, 1), blocks_decoder=(1,),
    ),
)  # fmt: skip
PLAN = Plan(
    made_from={}, dataset="Dataset001_Livers", request=PlanRequest(preset=PRESETS["nnunet"]), epochs=10, optimizer=NNUNET_OPTIMIZER,
    augmentation="nnunet", loss=LossSpec(), ndim=3, channels=("MRI",), file_ending=".nii.gz", transpose=(0, 1, 2),
    labels=LabelSpec(classes=(StructureClass(name="liver", values=(1,)),)), configurations={"3d_fullres": CONFIGURATION}, decisions=(),
)  # fmt: skip


def test_names_are_checked_and_taken_once() -> None:
    assert tracker_names(["mlflow", "tensorboard", "mlflow"]) == ("tensorboard", "mlflow")
    assert tracker_names([]) == ()
    with pytest.raises(UsageError, match="--track comet: no such tracker: expected tensorboard or wandb or mlflow"):
        tracker_names(["comet"])


def test_mlflow_writes_files_and_the_environment_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ENVIRONMENT, "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "false")  # what a person has set holds
    before = dict(os.environ)
    told = told_of(PLAN, CONFIGURATION, "0", Length(epochs=10, iterations=250), seed=7)
    with tracked(("mlflow",), FoldLayout(tmp_path), "Livers fold 0", told, anew=True) as trackers:
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "false"
        trackers.finish({"dice/liver": 0.75})
    assert dict(os.environ) == before
    values = {path.name: path.read_text() for path in (tmp_path / "mlflow").rglob("*") if path.parent.name in ("params", "tags", "dice")}
    assert values["liver"].split()[1:] == ["0.75", "0"]
    assert values["mlflow.runName"] == "Livers fold 0"
    assert {name: values[name] for name in told} == {
        "dataset": "Dataset001_Livers", "configuration": "3d_fullres", "fold": "0", "preset": "nnunet", "batch_size": "2",
        "length": "10 epochs of 250 steps", "seed": "7", "augmentation": "nnunet",
        "patch_size": "4×8×8", "spacing_mm": "3×0.75×0.75", "network": "plain", "features": "2,3", "optimizer": "sgd",
        "learning_rate": "0.01", "loss": "dice_ce",
    }  # fmt: skip


def test_scores_are_told_by_class_and_as_means() -> None:
    """One case in which 2 voxels are right, 1 is too many and 1 is missing: Dice 4/6, IoU 2/4."""
    scores = Scores.of({"a": {"liver": OverlapScore.from_counts(tp=2, fp=1, fn=1)}})
    assert told_scores(scores) == {"dice/liver": pytest.approx(2 / 3), "iou/liver": 0.5, "mean_dice": pytest.approx(2 / 3), "mean_iou": 0.5}
    assert told_scores(None) is None
