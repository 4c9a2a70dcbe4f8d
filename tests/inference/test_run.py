"""Predicting real files: geometry, order, failures."""

import gc
import gzip
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
import torch
from PIL import Image
from torch import Tensor

from autounet.geometry import Grid
from autounet.images import read_channels
from autounet.inference import needs, run
from autounet.inference.model import Model, Stage, averaged
from autounet.inference.passes import Forward
from autounet.inference.run import PredictionJob, predict_cases, validation_seconds
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, Plan
from autounet.runtime import Runtime

CPU = torch.device("cpu")
LABELS = LabelSpec(classes=(StructureClass(name="bright", values=(5,)),))
MakePlan = Callable[..., tuple[Plan, Configuration]]


def above_100(patches: Tensor) -> Tensor:
    """Scores of background and of what is brighter than 100, from unchanged intensities."""
    return torch.cat((100 - patches[:, :1], patches[:, :1] - 100), 1)


def model_of(forward: Forward, plan: Plan, configuration: Configuration) -> Model:
    """A model whose network is a plain function."""
    return Model(plan, (Stage(configuration, forward),), CPU)


def oblique_affine() -> npt.NDArray[np.float64]:
    """Axes turned and mirrored, three different spacings, an odd origin."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.9, 1.3, 2.1])
    affine[:3, 3] = (-77.25, 12.5, 301.75)
    return affine


def write_volume(path: Path, seed: int = 0) -> npt.NDArray[np.int16]:
    """Values 50 and 150 in blocks, with a margin of zeros; (x, y, z) as nibabel has it."""
    volume = np.full((14, 12, 10), 50, np.int16)
    rng = np.random.default_rng(seed)
    volume[rng.random(volume.shape) > 0.5] = 150
    volume[:2] = volume[:, :1] = 0
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, oblique_affine()), path)
    return volume


@pytest.fixture
def volume_plan(make_plan: MakePlan) -> tuple[Plan, Configuration]:
    """Nothing is resampled; axes turned so that z comes last."""
    return make_plan((1.3, 0.9, 2.1), transpose=(1, 2, 0), patch=(6, 8, 8), labels=LABELS)


def job(folder: Path, case: str, ending: str = ".nii.gz") -> PredictionJob:
    return PredictionJob(case, (folder / "in" / f"{case}_0000{ending}",), folder / "out" / f"{case}{ending}")


@pytest.mark.parametrize("workers", [0, 2])
def test_labels_of_a_threshold_on_exactly_the_images_geometry(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], workers: int
) -> None:
    jobs = [job(tmp_path, case) for case in ("a", "b", "c")]
    volumes = [write_volume(entry.images[0], seed) for seed, entry in enumerate(jobs)]
    problems = predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=workers)).problems
    assert problems == []
    for entry, volume in zip(jobs, volumes, strict=True):
        image, labels = nibabel.load(entry.images[0]), nibabel.load(entry.output)
        np.testing.assert_array_equal(np.asarray(labels.dataobj), np.where(volume > 100, 5, 0))
        np.testing.assert_array_equal(labels.affine, image.affine)
        np.testing.assert_array_equal(labels.header.get_zooms(), image.header.get_zooms())
        for key in ("qform_code", "sform_code", "xyzt_units", "srow_x", "quatern_b", "qoffset_x", "pixdim"):
            np.testing.assert_array_equal(labels.header[key], image.header[key])
        first, second = SimpleITK.ReadImage(str(entry.images[0])), SimpleITK.ReadImage(str(entry.output))
        assert (first.GetOrigin(), first.GetSpacing(), first.GetDirection()) == (
            second.GetOrigin(),
            second.GetSpacing(),
            second.GetDirection(),
        )


def test_planar_images_stay_planar(tmp_path: Path, make_plan: MakePlan) -> None:
    plan, configuration = make_plan((1.0, 1.0), patch=(16, 16), labels=LABELS, ending=".png")
    entry = job(tmp_path, "cell", ".png")
    entry.images[0].parent.mkdir()
    pixels = np.random.default_rng(0).integers(1, 255, (33, 21)).astype(np.uint8)
    Image.fromarray(pixels).save(entry.images[0])
    assert predict_cases(model_of(above_100, plan, configuration), [entry], Runtime(workers=1)).problems == []
    with Image.open(entry.output) as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(np.asarray(written), np.where(pixels > 100, 5, 0))


def test_resampled_there_and_back(tmp_path: Path, make_plan: MakePlan) -> None:
    """A bright block keeps its place to half a voxel when the network's grid is another."""
    plan, configuration = make_plan((1.0, 1.5, 0.8), patch=(8, 8, 8), labels=LABELS)
    entry = job(tmp_path, "block")
    volume = np.full((24, 20, 16), 50, np.int16)
    volume[6:18, 5:15, 4:12] = 150
    entry.images[0].parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([1.0, 1.1, 1.2, 1.0])), entry.images[0])
    assert predict_cases(model_of(above_100, plan, configuration), [entry], Runtime(workers=0)).problems == []
    found = np.asarray(nibabel.load(entry.output).dataobj) == 5
    assert found[7:17, 6:14, 5:11].all()
    found[5:19, 4:16, 3:13] = False
    assert not found.any()


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_files_do_not_stop_the_others(tmp_path: Path, volume_plan: tuple[Plan, Configuration], workers: int) -> None:
    jobs = [job(tmp_path, case) for case in ("a_good", "b_truncated", "c_missing", "d_nan", "e_channels", "f_good")]
    for entry in jobs:
        write_volume(entry.images[0])
    jobs[1].images[0].write_bytes(jobs[1].images[0].read_bytes()[:200])
    jobs[2].images[0].unlink()
    not_a_number = np.full((8, 8, 8), np.nan, np.float32)
    nibabel.save(nibabel.Nifti1Image(not_a_number, np.eye(4)), jobs[3].images[0])
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 8, 2), np.float32), np.eye(4)), jobs[4].images[0])
    problems = predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=workers)).problems
    assert sorted(problem.case for problem in problems) == ["b_truncated", "c_missing", "d_nan", "e_channels"]
    told = {problem.case: problem.what for problem in problems}
    assert "no such file" in told["c_missing"]
    assert "NaN" in told["d_nan"]
    assert "wrong number of channels" in told["e_channels"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_good.nii.gz", "f_good.nii.gz"]


def test_an_output_that_cannot_be_written_is_reported(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    (tmp_path / "file").write_text("not a folder")
    good = job(tmp_path, "b")
    write_volume(good.images[0])
    bad = PredictionJob("a", good.images, tmp_path / "file" / "a.nii.gz")
    problems = predict_cases(model_of(above_100, *volume_plan), [bad, good], Runtime(workers=1)).problems
    assert [problem.case for problem in problems] == ["a"]
    assert "cannot be written" in problems[0].what
    assert good.output.is_file()


def test_mirroring_is_the_default_and_can_be_left_out(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    entry, calls = job(tmp_path, "a"), []

    def counting(patches: Tensor) -> Tensor:
        calls.append(len(patches))
        return above_100(patches)

    write_volume(entry.images[0])
    predict_cases(model_of(counting, *volume_plan), [entry], Runtime(workers=0), mirror=False)
    plain = sum(calls)
    calls.clear()
    predict_cases(model_of(counting, *volume_plan), [entry], Runtime(workers=0))
    assert sum(calls) == 8 * plain
    shape = (11, 10, 12)  # in the order y, z, x: what is left of 12, 10, 14 without the empty margins
    assert validation_seconds([shape], volume_plan[1], 0.5, mirror=False) == plain * 0.5
    assert validation_seconds([shape, shape], volume_plan[1], 0.5) == 2 * 8 * plain * 0.5


def unpadded(chosen: tuple[Plan, Configuration], patch: tuple[int, int]) -> tuple[Plan, Configuration]:
    """The plan with a network of two stages without padding, which scores 16 pixels less than it sees."""
    plan, configuration = chosen
    changes = {"kind": "unet2015", "blocks_encoder": (2, 2), "blocks_decoder": (2,)}
    network = configuration.network.model_copy(update=changes)
    configuration = configuration.model_copy(update={"network": network, "patch_size": patch})
    return plan.model_copy(update={"configurations": {configuration.name: configuration}}), configuration


@pytest.mark.parametrize("size", [(33, 21), (5, 70), (24, 24), (1, 3)])
def test_unpadded_networks_predict_images_of_any_size(tmp_path: Path, make_plan: MakePlan, size: tuple[int, int]) -> None:
    """Larger and smaller than the tile of 24 and its margin of 8; the estimate of the time counts the same forward passes."""
    plan, configuration = unpadded(make_plan((1.0, 1.0), labels=LABELS, ending=".png"), (40, 40))
    entry, seen = job(tmp_path, "cell", ".png"), 0

    def middle_above_100(patches: Tensor) -> Tensor:
        nonlocal seen
        seen += len(patches)
        assert patches.shape[2:] == (40, 40)
        return above_100(patches)[:, :, 8:-8, 8:-8]

    entry.images[0].parent.mkdir()
    pixels = np.random.default_rng(0).integers(1, 255, size).astype(np.uint8)
    Image.fromarray(pixels).save(entry.images[0])
    assert predict_cases(model_of(middle_above_100, plan, configuration), [entry], Runtime(workers=0)).problems == []
    with Image.open(entry.output) as written:
        np.testing.assert_array_equal(np.asarray(written), np.where(pixels > 100, 5, 0))
    assert validation_seconds([(1, *size)], configuration, 0.5) == 0.5 * seen


def test_no_more_than_a_few_cases_are_in_memory(tmp_path: Path, volume_plan: tuple[Plan, Configuration], monkeypatch: Any) -> None:
    """Reading runs at most as many cases ahead of the network as there are workers, writing at most two behind."""
    jobs = [job(tmp_path, f"{number}") for number in range(8)]
    for entry in jobs:
        write_volume(entry.images[0])
    alive, most, lock = 0, 0, threading.Lock()
    prepare, write = run.first_prepared, run.write_labels

    def counted_prepare(*arguments: Any) -> Any:
        nonlocal alive, most
        with lock:
            alive, most = alive + 1, max(most, alive + 1)
        return prepare(*arguments)

    def counted_write(*arguments: Any, **named: Any) -> None:
        nonlocal alive
        write(*arguments, **named)
        with lock:
            alive -= 1

    monkeypatch.setattr(run, "first_prepared", counted_prepare)
    monkeypatch.setattr(run, "write_labels", counted_write)
    assert predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=2), mirror=False).problems == []
    assert alive == 0
    assert most <= 5  # two prepared or under way, one in the network, one written and one waiting for it


def test_prepared_images_are_gone_once_they_are_predicted(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], monkeypatch: Any
) -> None:
    """Whoever still waits to be written holds its scores only."""
    jobs = [job(tmp_path, f"{number}") for number in range(6)]
    for entry in jobs:
        write_volume(entry.images[0])
    alive: list[weakref.ref[Any]] = []
    most = 0
    prepare, write = run.first_prepared, run.write_labels

    def watched_prepare(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        alive.append(weakref.ref(prepared.image_czyx))
        return prepared

    def watched_write(*arguments: Any, **named: Any) -> None:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in alive))
        time.sleep(0.05)  # the network is ahead
        write(*arguments, **named)

    monkeypatch.setattr(run, "first_prepared", watched_prepare)
    monkeypatch.setattr(run, "write_labels", watched_write)
    assert predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=1), mirror=False).problems == []
    assert len(alive) == 6
    assert most <= 3  # one prepared, one on its way, one in the network


def test_an_interruption_leaves_no_half_written_file(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    jobs = [job(tmp_path, case) for case in ("a", "b", "c")]
    for entry in jobs:
        write_volume(entry.images[0])
    calls = 0

    def interrupted(patches: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt
        return above_100(patches)

    with pytest.raises(KeyboardInterrupt):
        predict_cases(model_of(interrupted, *volume_plan), jobs, Runtime(workers=1), mirror=False)
    for path in (tmp_path / "out").glob("*") if (tmp_path / "out").is_dir() else ():
        assert path.name in {"a.nii.gz", "b.nii.gz"}
        gzip.decompress(path.read_bytes())


def test_an_interruption_does_not_wait_for_those_who_wait_for_memory(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], monkeypatch: Any
) -> None:
    """The case in the network is the only one that fits; two more wait for it to leave."""
    monkeypatch.setattr(needs, "LEAST_BYTES", 1)
    jobs = [job(tmp_path, case) for case in ("a", "b", "c")]
    for entry in jobs:
        write_volume(entry.images[0])

    def interrupted(patches: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_cases(model_of(interrupted, *volume_plan), jobs, Runtime(workers=2), memory_gb=0.001)
    assert not any(thread.name.startswith("autounet") for thread in threading.enumerate())


def test_an_empty_image_is_refused(tmp_path: Path, make_plan: MakePlan) -> None:
    """There is nothing to normalise and nothing to segment: a network would answer with noise."""
    plan, configuration = make_plan((1.0, 1.0, 1.0), patch=(8, 8, 8), labels=LABELS)
    entry = job(tmp_path, "empty")
    entry.images[0].parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 8, 7), np.int16), np.eye(4)), entry.images[0])
    (problem,) = predict_cases(model_of(above_100, plan, configuration), [entry], Runtime(workers=0)).problems
    assert problem.case == "empty"
    assert "every voxel is zero" in problem.what
    assert not entry.output.exists()


def test_errors_of_the_program_are_not_hidden(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    entry = job(tmp_path, "a")
    write_volume(entry.images[0])

    def wrong(patches: Tensor) -> Tensor:
        raise ArithmeticError("a bug")

    with pytest.raises(ArithmeticError, match="a bug"):
        predict_cases(model_of(wrong, *volume_plan), [entry], Runtime(workers=1))


def test_errors_of_the_program_while_reading_end_everything(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], monkeypatch: Any
) -> None:
    """Those behind the case that fails must not wait for what will not come."""
    jobs = [job(tmp_path, case) for case in ("a", "b", "c")]
    for entry in jobs:
        write_volume(entry.images[0])

    def wrong(paths: Sequence[Path], channels: int) -> tuple[npt.NDArray[np.float32], Grid]:
        if paths == jobs[0].images:
            time.sleep(0.2)  # the others come first
            raise ArithmeticError("a bug")
        return read_channels(paths, channels)

    monkeypatch.setattr("autounet.inference.run.read_channels", wrong)
    with pytest.raises(ArithmeticError, match="a bug"):
        predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=2))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("Tried to allocate 20.00 GiB")], ids=["host", "gpu"])
def test_a_case_that_runs_out_of_memory_does_not_stop_the_others(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], workers: int, error: Exception
) -> None:
    """It fails when not even one patch fits; others go on with the batches that they had."""
    jobs = [job(tmp_path, case) for case in ("a", "b", "c")]
    for seed, entry in enumerate(jobs):
        write_volume(entry.images[0], seed)
    sizes: list[int] = []

    def forward(patches: torch.Tensor) -> torch.Tensor:
        sizes.append(len(patches))
        if 1 not in sizes[:-1]:
            raise error
        return above_100(patches)

    problems = predict_cases(model_of(forward, *volume_plan), jobs, Runtime(workers=workers), mirror=False).problems
    assert [problem.case for problem in problems] == ["a"]
    assert "not enough memory" in problems[0].what
    assert [entry.output.exists() for entry in jobs] == [False, True, True]
    assert sizes[:4] == [8, 4, 2, 1]
    assert max(sizes[4:]) == 8


def test_cases_that_failed_hold_no_arrays(tmp_path: Path, volume_plan: tuple[Plan, Configuration], monkeypatch: Any) -> None:
    """An error kept for the report has frames, and frames have arrays; without the garbage collector they would live on."""
    jobs = [job(tmp_path, f"{number}") for number in range(4)]
    for entry in jobs:
        write_volume(entry.images[0])
    prepare, arrays = run.first_prepared, list[weakref.ref[Any]]()

    def watched(*arguments: Any) -> Any:
        prepared = prepare(*arguments)
        arrays.append(weakref.ref(prepared.image_czyx))
        return prepared

    def forward(patches: torch.Tensor) -> torch.Tensor:
        raise MemoryError("no room")

    monkeypatch.setattr(run, "first_prepared", watched)
    gc.disable()
    try:
        found = predict_cases(model_of(forward, *volume_plan), jobs, Runtime(workers=1), mirror=False)
        assert [reference() for reference in arrays] == [None] * 4
    finally:
        gc.enable()
    assert len(found.problems) == 4


def test_the_summary_counts_what_was_written(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    jobs = [job(tmp_path, case) for case in ("a", "b", "c")]
    for entry in jobs:
        write_volume(entry.images[0])
    jobs[1].images[0].write_bytes(b"no image")
    found = predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=1), mirror=False)
    assert (found.cases, found.voxels) == (2, 2 * 14 * 12 * 10)
    assert found.seconds > 0
    assert found.peak_bytes is None or found.peak_bytes > 10e6


@pytest.mark.parametrize("workers", [0, 2])
def test_cases_beyond_the_limit_are_predicted_one_by_one(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], workers: int, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """With next to no memory each waits until the one before is written; what alone is too large is said, and tried all the same."""
    monkeypatch.setattr(needs, "LEAST_BYTES", 1)
    jobs = [job(tmp_path, f"{number}") for number in range(4)]
    for entry in jobs:
        write_volume(entry.images[0])
    inside: set[str] = set()
    prepare, write = run.first_prepared, run.write_labels

    def entering(*arguments: Any) -> Any:
        assert not inside
        inside.add("one")
        return prepare(*arguments)

    def leaving(*arguments: Any, **named: Any) -> None:
        write(*arguments, **named)
        inside.clear()

    monkeypatch.setattr(run, "first_prepared", entering)
    monkeypatch.setattr(run, "write_labels", leaving)
    found = predict_cases(model_of(above_100, *volume_plan), jobs, Runtime(workers=workers), mirror=False, memory_gb=0.001)
    assert found.problems == []
    assert found.cases == 4
    assert "it is predicted alone" in caplog.text


def test_probabilities_that_cannot_be_written_leave_no_half_file(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    jobs = [job(tmp_path, case) for case in ("a", "b")]
    for entry in jobs:
        write_volume(entry.images[0])
    (tmp_path / "no_folder").touch()
    files = [tmp_path / "a.npz", tmp_path / "no_folder" / "b.npz"]
    wanted = [replace(entry, probabilities=file) for entry, file in zip(jobs, files, strict=True)]
    found = predict_cases(model_of(above_100, *volume_plan), wanted, Runtime(workers=1), mirror=False)
    assert [problem.case for problem in found.problems] == ["b"]
    with np.load(files[0]) as file:
        inside = nibabel.load(jobs[0].output).get_fdata().T == 5  # type: ignore[attr-defined]
        np.testing.assert_array_equal(file["probabilities"].argmax(0) == 1, inside)
    assert not jobs[1].output.exists()
    assert list(jobs[0].output.parent.glob(".scratch*")) == []


def test_an_interruption_leaves_no_probabilities(tmp_path: Path, volume_plan: tuple[Plan, Configuration]) -> None:
    entry, calls = job(tmp_path, "a"), list[int]()
    write_volume(entry.images[0])

    def interrupted(patches: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return above_100(patches)

    wanted = replace(entry, probabilities=tmp_path / "a.npz")
    with pytest.raises(KeyboardInterrupt):
        predict_cases(model_of(interrupted, *volume_plan), [wanted], Runtime(workers=1), mirror=False)
    assert not (tmp_path / "a.npz").exists()
    assert not entry.output.exists()


def certain(bright: float, dark: float) -> Forward:
    """Probability ``bright`` of the class where the image is brighter than 100, else ``dark``."""

    def forward(patches: Tensor) -> Tensor:
        probability = torch.where(patches[:, :1] > 100, bright, dark)
        return torch.cat((torch.log(1 - probability), torch.log(probability)), 1)

    return forward


@pytest.mark.parametrize("workers", [0, 2])
def test_several_models_are_averaged_as_probabilities_on_the_images_own_grid(
    tmp_path: Path, volume_plan: tuple[Plan, Configuration], workers: int
) -> None:
    """Bright: (0.9 + 0.9 + 0.3) / 3 = 0.7; dark: (0.1 + 0.1 + 0.7) / 3 = 0.3."""
    jobs = [
        replace(job(tmp_path, case), probabilities=tmp_path / f"{case}.npz", uncertainty=tmp_path / "u" / f"{case}.nii.gz") for case in "ab"
    ]
    for number, entry in enumerate(jobs):
        write_volume(entry.images[0], seed=number)
    plan, configuration = volume_plan
    members = [model_of(certain(*each), plan, configuration) for each in ((0.9, 0.1), (0.9, 0.1), (0.3, 0.7))]
    found = predict_cases(averaged(members), jobs, Runtime(workers=workers))
    assert found.problems == []
    for entry in jobs:
        reference = replace(entry, output=tmp_path / "one" / entry.output.name, probabilities=None, uncertainty=None)
        assert predict_cases(members[0], [reference], Runtime(workers=0)).problems == []
        labels, expected = (nibabel.load(each.output).get_fdata() for each in (entry, reference))  # type: ignore[attr-defined]
        with np.load(entry.probabilities) as file:
            bright = file["probabilities"][1].T
        sure = np.isclose(bright, 0.7, atol=2e-3)
        assert sure.any()
        np.testing.assert_array_equal(labels[sure], 5)
        between = ~sure & ~np.isclose(bright, 0.3, atol=2e-3) & ~np.isclose(bright, 0, atol=1e-3)  # interpolated at edges
        np.testing.assert_array_equal(labels[~between], expected[~between])
        entropy = nibabel.load(entry.uncertainty).get_fdata()  # type: ignore[attr-defined]
        np.testing.assert_array_equal(entropy[sure], 88)  # -(0.7 ln 0.7 + 0.3 ln 0.3) / ln 2 = 0.881
        assert found.expected_dice[entry.case] is not None
