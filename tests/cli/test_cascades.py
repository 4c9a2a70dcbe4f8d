"""A cascade from its plan to a shared model: all folds of the low resolution first, then the second stage on what they predict."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from autounet import Predictor
from autounet.bundle import Bundle
from autounet.cli.running import make_schedule
from autounet.errors import UsageError
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.selection import Selection

Run = Callable[..., Any]

CASCADE = "3d_cascade_fullres"
PRESET = {"base": "small", "features": [4, 8], "volumetric": {"features": 20_000}, "lowres_below": 1.0}
"""Networks and patches so small that a low resolution makes sense for images of 12×14×16 voxels."""
SHORT = ("--epochs", "1", "--iterations", "1", "--device", "cpu", "--workers", "0")


@pytest.fixture(scope="module")
def lowres(autounet: Run, kit: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Five cases, a plan with a cascade, and the low resolution with all its folds; without curves, which take longer than training."""
    folder = tmp_path_factory.mktemp("cascade")
    data, preset = folder / "Dataset013_Small", folder / "tiny.json"
    rng = np.random.default_rng(0)
    for number in range(5):
        labels = np.zeros((12, 14, 16), np.uint8)
        labels[2:9, 3:10, 3 + number % 2 : 12], labels[4:7, 5:8, 6:9] = 1, 3
        image = (100 + 40 * labels + 5 * rng.normal(size=labels.shape)).astype(np.int16)
        kit.save_nifti(data / "imagesTr" / f"case_{number}_0000.nii.gz", image, np.eye(4))
        kit.save_nifti(data / "labelsTr" / f"case_{number}.nii.gz", labels, np.eye(4))
    content = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "box": 1, "core": 3}, "file_ending": ".nii.gz", "numTraining": 5}
    (data / "dataset.json").write_text(json.dumps(content))
    preset.write_text(json.dumps(PRESET))
    where = ("-d", data, "--runs", folder / "runs")
    assert autounet("plan", *where, "--preset", preset).code == 0
    too_early = autounet("train", *where, "-f", "0", "-c", CASCADE, *SHORT)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autounet.cli.epochs.progress_figure", lambda *_: None)
        ended = autounet("train", *where, "-f", "0,1,2,3,4", "-c", "3d_lowres", *SHORT)
    assert ended.code == 0, ended
    return SimpleNamespace(data=data, runs=folder / "runs", too_early=too_early)


@pytest.fixture(scope="module")
def cascade(lowres: SimpleNamespace, autounet: Run) -> SimpleNamespace:
    """With fold 0 of the second stage."""
    ended = autounet("train", "-d", lowres.data, "--runs", lowres.runs, "-f", "0", "-c", CASCADE, *SHORT)
    assert ended.code == 0, ended
    return SimpleNamespace(**vars(lowres), layout=RunLayout(lowres.runs / lowres.data.name), train=ended)


@pytest.fixture
def copy(cascade: SimpleNamespace, tmp_path: Path) -> RunLayout:
    """A run folder that a test may spoil."""
    return RunLayout(Path(shutil.copytree(cascade.runs, tmp_path / "runs")) / cascade.data.name)


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_without_the_low_resolution_the_command_that_is_missing_is_named(lowres: SimpleNamespace) -> None:
    ended = lowres.too_early
    assert ended.code == 2
    assert f"-c {CASCADE}: learns from what 3d_lowres predicts for cases that it has not seen" in ended.text
    assert "folds 0, 1, 2, 3, 4 not trained and validated" in ended.text
    assert "autounet train -d Dataset013_Small -c 3d_lowres -f 0,1,2,3,4" in ended.text


def test_the_second_stage_is_trained_validated_and_kept_beside_what_it_has_learnt_from(cascade: SimpleNamespace) -> None:
    names = {path.name.split(".", 1)[1] for path in cascade.layout.prepared(CASCADE).iterdir()}
    assert names == {"b2nd", "seg.b2nd", "prev.b2nd", "json"}
    fold = cascade.layout.fold(CASCADE, "0")
    assert fold.scores.exists()
    assert len(list(fold.validation.iterdir())) == 1


def test_what_is_done_is_done(cascade: SimpleNamespace, copy: RunLayout, autounet: Run, kit: SimpleNamespace) -> None:
    """A copy keeps the times of its files, as copies should."""
    before = kit.snapshot(copy.prepared(CASCADE), copy.fold(CASCADE, "0").root)
    ended = autounet("train", "-d", cascade.data, "--runs", copy.root.parent, "-f", "0", "-c", CASCADE)
    assert "is trained already" in ended.text
    assert "have changed" not in ended.text
    assert kit.snapshot(copy.prepared(CASCADE), copy.fold(CASCADE, "0").root) == before


@pytest.mark.parametrize("gone", ["validation/case_{case}.nii.gz", "weights.safetensors", "scores.json"])
def test_a_fold_that_lacks_something_is_named(cascade: SimpleNamespace, copy: RunLayout, refused: Run, gone: str) -> None:
    fold = copy.fold("3d_lowres", "3").root
    (case,) = [path.name.split(".")[0].removeprefix("case_") for path in (fold / "validation").iterdir()]
    (fold / gone.format(case=case)).unlink()
    where = ("-d", cascade.data, "--runs", copy.root.parent, "-c", CASCADE)
    words = "fold 3 not trained and validated"
    refused(2, [words, "-c 3d_lowres -f 3"], "train", *where, "-f", "1", *SHORT)
    refused(2, [words], "preprocess", *where)


def test_folds_that_were_trained_on_cases_they_hold_out_now_are_refused(cascade: SimpleNamespace, copy: RunLayout, refused: Run) -> None:
    """Folds 1 and 2 change places: what they predict is not out of fold any more."""
    splits = json.loads(copy.splits.read_text())
    folds = splits["folds"]
    folds[1], folds[2] = folds[2], folds[1]
    copy.splits.write_text(json.dumps(splits))
    for one, other in (("1", "2"), ("2", "1")):  # as if their label maps were there all the same
        for path in cascade.layout.fold("3d_lowres", one).validation.iterdir():
            shutil.copy(path, copy.fold("3d_lowres", other).validation)
    words = ["folds 1, 2 trained on other cases than in splits.json", "-f 1,2 --overwrite"]
    refused(2, words, "train", "-d", cascade.data, "--runs", copy.root.parent, "-f", "0", "-c", CASCADE, *SHORT)


def test_when_a_fold_of_the_first_stage_predicts_otherwise_the_second_one_says_so(
    cascade: SimpleNamespace, copy: RunLayout, autounet: Run
) -> None:
    (path,) = copy.fold("3d_lowres", "2").validation.iterdir()
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    ended = autounet("train", "-d", cascade.data, "--runs", copy.root.parent, "-f", "0", "-c", CASCADE)
    assert ended.code == 0, ended
    assert "1 prepared case is made again" in ended.text
    assert "trained on images, labels or label maps of 3d_lowres that have changed since" in ended.text


def test_predicting_goes_through_all_folds_of_the_first_stage(cascade: SimpleNamespace, tmp_path: Path, autounet: Run) -> None:
    """A bundle holds both stages and gives the same label maps; folds that are named hold for both."""
    source, run = cascade.data / "imagesTr", cascade.layout.root
    command = ("predict", "-i", source / "case_1_0000.nii.gz", "--device", "cpu", "--precision", "fp32")
    assert autounet(*command, "-m", run, "-c", CASCADE, "-o", tmp_path / "folder").code == 0
    bundle = tmp_path / "model.zip"
    assert autounet("export", "-d", cascade.data.name, "--runs", cascade.runs, "-c", CASCADE, "-o", bundle).code == 0
    assert Bundle.open(bundle).manifest.configurations == {CASCADE: ("0",), "3d_lowres": ("0", "1", "2", "3", "4")}
    assert autounet(*command, "-m", bundle, "-o", tmp_path / "bundle").code == 0
    np.testing.assert_array_equal(values(tmp_path / "folder" / "case_1.nii.gz"), values(tmp_path / "bundle" / "case_1.nii.gz"))
    predictor = Predictor.load(run, device="cpu", precision="fp32", configuration=CASCADE)
    image = nib.load(source / "case_1_0000.nii.gz")
    np.testing.assert_array_equal(np.asarray(predictor.predict_image(image).dataobj), values(tmp_path / "folder" / "case_1.nii.gz"))
    ended = autounet(*command, "-m", run, "-c", CASCADE, "-f", "0", "--uncertainty", "-o", tmp_path / "one")
    assert ended.code == 0, ended
    one = tmp_path / "one.zip"
    assert autounet("export", "-d", cascade.data.name, "--runs", cascade.runs, "-c", CASCADE, "-f", "0", "-o", one).code == 0
    assert Bundle.open(one).manifest.configurations == {CASCADE: ("0",), "3d_lowres": ("0",)}


def test_predicting_without_the_first_stage(cascade: SimpleNamespace, copy: RunLayout, tmp_path: Path, refused: Run) -> None:
    shutil.rmtree(copy.models / "3d_lowres")
    words = ["3d_lowres: not trained"]
    refused(2, words, "predict", "-i", cascade.data / "imagesTr", "-o", tmp_path / "out", "-m", copy.root, "-c", CASCADE)


def test_cascades_are_selected_among(cascade: SimpleNamespace, copy: RunLayout, autounet: Run) -> None:
    """With the low resolution, and averaged with it; and where that was trained again, it is said."""
    ended = autounet("select", "-d", cascade.data, "--runs", copy.root.parent)
    assert ended.code == 0, ended
    found = Selection.load(copy.selection)
    assert {candidate.name for candidate in found.candidates} == {"3d_lowres", CASCADE, f"3d_lowres+{CASCADE}"}
    assert len(list(copy.ensemble(f"3d_lowres+{CASCADE}").glob("*.nii.gz"))) == 1
    assert "trained again" not in ended.text
    weights = copy.fold("3d_lowres", "4").weights
    os.utime(weights, ns=(0, copy.fold(CASCADE, "0").weights.stat().st_mtime_ns + 10**9))
    ended = autounet("select", "-d", cascade.data, "--runs", copy.root.parent, "--no-ensembles")
    assert f"fold 0 of {CASCADE}: 3d_lowres was trained again since" in ended.text


def test_a_schedule_has_all_folds_of_the_low_resolution(lowres: SimpleNamespace) -> None:
    plan = Plan.load(lowres.runs / lowres.data.name / "plan.json")
    every = [str(fold) for fold in range(5)]

    def of(configuration: str, *folds: str) -> list[tuple[str, str]]:
        return [(configuration, fold) for fold in folds]

    whole = [part for name in ("2d", "3d_lowres", "3d_fullres", CASCADE) for part in of(name, *every)]
    assert list(make_schedule(plan, (), every, None, every).parts) == whole
    assert list(make_schedule(plan, (), ["0"], None, every).parts) == of("2d", "0") + of("3d_lowres", "0") + of("3d_fullres", "0")
    assert list(make_schedule(plan, [CASCADE], ["1"], None, every).parts) == of("3d_lowres", *every) + of(CASCADE, "1")
    assert list(make_schedule(plan, [CASCADE, "2d"], ["1"], None, every).parts) == of("2d", "1") + of("3d_lowres", *every) + of(
        CASCADE, "1"
    )
    with pytest.raises(UsageError, match="too little for 6 folds"):
        make_schedule(plan, [CASCADE], ["1"], 6, every)


def test_fewer_folds_leave_the_cascade_out_and_say_so(lowres: SimpleNamespace, autounet: Run) -> None:
    where = ("-d", lowres.data, "--runs", lowres.runs, "--dry-run")
    ended = autounet("run", *where, "-f", "0")
    assert f"{CASCADE} is left out: it takes all folds of 3d_lowres" in ended.text
    ended = autounet("run", *where, "-f", "0", "-c", CASCADE)
    assert "left out" not in ended.text
    assert f"train {CASCADE} fold 0" in ended.text
    assert "train 3d_lowres fold 4" in ended.text
