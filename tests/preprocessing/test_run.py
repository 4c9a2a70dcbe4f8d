"""Preparing a whole dataset: from real files, resumable, every problem at once, whatever the number of workers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from autounet.dataset import DatasetSpec, read_dataset
from autounet.errors import ArtefactError, DatasetError, ImageError, UsageError
from autounet.images import read_channels
from autounet.plan import Configuration, LossSpec, Normalization, Plan
from autounet.preprocessing.border import border_weights
from autounet.preprocessing.run import open_cases, prepare_dataset, recipe_of
from autounet.preprocessing.store import Store
from autounet.runtime import Runtime

CASES = 4
MakePlan = Callable[..., tuple[Plan, Configuration]]
Chosen = tuple[Plan, Configuration]


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetSpec:
    """Four cases ``c0`` … ``c3`` of random voxels with a margin of zeros."""
    root = tmp_path / "Dataset001_Test"
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    names = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "one": 1, "two": 2}, "numTraining": CASES, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(names))
    for number in range(CASES):
        write_case(root, number)
    return read_dataset(root)


def write_case(root: Path, number: int, fill: float | None = None, value: int = 2) -> None:
    rng = np.random.default_rng(number)
    image = np.zeros((12, 11, 10), np.float32)
    image[1:-1, 1:-1, 1:-1] = rng.uniform(50, 100, (10, 9, 8))
    if fill is not None:
        image[5, 5, 5] = fill
    labels = np.zeros(image.shape, np.uint8)
    labels[3:7, 3:6, 3:5], labels[5, 5, 5] = 1, value
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTr" / f"c{number}_0000.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, affine), root / "labelsTr" / f"c{number}.nii.gz")


@pytest.fixture
def chosen(make_plan: MakePlan) -> Chosen:
    return make_plan((1.2, 1.0, 0.9), schemes=(Normalization(scheme="zscore"),))


def written(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def prepare(dataset: DatasetSpec, chosen: Chosen, folder: Path, workers: int = 0) -> list[str]:
    plan, configuration = chosen
    found = prepare_dataset(dataset, plan, {configuration.name: folder}, Runtime(workers=workers))
    return [stored.case for stored in found[configuration.name]]


def test_all_cases_in_order(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    assert prepare(dataset, chosen, tmp_path / "store") == ["c0", "c1", "c2", "c3"]
    store, stored = open_cases(*chosen, tmp_path / "store", ["c2", "c0"])
    assert [entry.case for entry in stored] == ["c2", "c0"]
    opened = store.open(stored[0])
    # 8×9×10 voxels of 1.5, 1.2, 1 mm are left of the crop → 1.2, 1, 0.9 mm: 10, 10.8, 11.1
    assert opened.image.shape == (1, 10, 11, 11)
    assert abs(opened.image[:].mean()) < 0.05
    assert opened.image[:].std() == pytest.approx(1, abs=0.3)
    assert sorted(np.unique(opened.labels[:])) == [0, 1, 2]


def test_the_same_whatever_the_workers(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    for workers in (0, 1, 3):
        prepare(dataset, chosen, tmp_path / str(workers), workers)
    for case in ("c0", "c3"):
        results = []
        for workers in (0, 1, 3):
            store, stored = open_cases(*chosen, tmp_path / str(workers), [case])
            results.append((stored[0], store.open(stored[0]).in_memory()))
        for entry, held in results[1:]:
            assert entry.foreground_counts == results[0][0].foreground_counts
            np.testing.assert_allclose(held.image, results[0][1].image, atol=1e-5)
            np.testing.assert_array_equal(held.labels, results[0][1].labels)
            for found, expected in zip(held.foreground, results[0][1].foreground, strict=True):
                np.testing.assert_array_equal(found, expected)


def test_two_configurations_from_one_reading(
    dataset: DatasetSpec, chosen: Chosen, make_plan: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As prepared one by one; and of a case that one of them has, only the other is made."""
    plan, volumes = chosen
    slices = make_plan((1.0, 0.9), schemes=(Normalization(scheme="rescale"),))[1]
    plan = plan.model_copy(update={"configurations": {volumes.name: volumes, slices.name: slices}})
    both = {name: tmp_path / "both" / name for name in plan.configurations}
    read: list[str] = []
    monkeypatch.setattr(
        "autounet.preprocessing.run.read_channels", lambda paths, count: (read.append(paths[0].name), read_channels(paths, count))[1]
    )
    prepare_dataset(dataset, plan, both, Runtime(workers=2))
    assert sorted(read) == [f"c{number}_0000.nii.gz" for number in range(CASES)]
    for name, folder in both.items():
        alone = prepare_dataset(dataset, plan, {name: tmp_path / name}, Runtime(workers=0))
        store, stored = open_cases(plan, plan.configurations[name], folder, ["c0", "c3"])
        other, expected = open_cases(plan, plan.configurations[name], tmp_path / name, ["c0", "c3"])
        assert [entry.case for entry in alone[name]] == [case.id for case in dataset.cases]
        for one, two in zip(stored, expected, strict=True):
            np.testing.assert_allclose(store.open(one).image[:], other.open(two).image[:], atol=1e-5)
            np.testing.assert_array_equal(store.open(one).labels[:], other.open(two).labels[:])
    before = {name: written(folder) for name, folder in both.items()}
    (both["2d"] / "c1.json").unlink()
    prepare_dataset(dataset, plan, both, Runtime(workers=2))
    assert written(both["3d_fullres"]) == before["3d_fullres"]
    assert written(both["2d"]).keys() == before["2d"].keys()


def test_torch_has_its_threads_back(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    prepare(dataset, chosen, tmp_path / "store", workers=2)
    assert torch.get_num_threads() == threads


def test_what_is_there_is_kept(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    prepare(dataset, chosen, folder)
    before = written(folder)
    prepare(dataset, chosen, folder)
    assert written(folder) == before
    # A case half-written by an interrupted run: its description is not there yet.
    (folder / "c1.json").unlink()
    prepare(dataset, chosen, folder)
    after = written(folder)
    assert {name for name in before if after[name] != before[name]} == {"c1.b2nd", "c1.seg.b2nd", "c1.json"}


def test_a_changed_raw_file_is_prepared_again(
    dataset: DatasetSpec, chosen: Chosen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "store"
    prepare(dataset, chosen, folder)
    before = written(folder)
    write_case(dataset.root, 2, value=1)
    prepare(dataset, chosen, folder)
    after = written(folder)
    assert {name.split(".")[0] for name in before if after[name] != before[name]} == {"c2"}
    assert "1 prepared case is made again" in caplog.text


def declared(dataset: DatasetSpec, annotated: dict[str, list[str]]) -> DatasetSpec:
    """The same dataset with 'annotated' in its dataset.json."""
    path = dataset.root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "labels": {"background": 0, "c1": 1, "c2": 2}, "annotated": annotated}))
    return read_dataset(dataset.root)


def test_a_change_of_what_is_annotated_prepares_that_case_again(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    write_case(dataset.root, 1, value=1)  # no voxel of c2
    prepare(dataset, chosen, folder)
    before = written(folder)
    prepare(declared(dataset, {"c1": ["c1"]}), chosen, folder)
    after = written(folder)
    assert {name.split(".")[0] for name in before if after[name] != before[name]} == {"c1"}
    stored = open_cases(*chosen, folder, ["c0", "c1"])[1]
    assert [entry.annotated for entry in stored] == [None, (0,)]
    assert stored[1].origin()[-1] == {"annotated": [0]}


def test_a_label_map_with_a_class_that_is_said_not_to_be_annotated(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        prepare(declared(dataset, {"c3": ["c1"]}), chosen, tmp_path / "store")
    (problem,) = caught.value.problems
    assert problem.case == "c3"
    assert "found 'c2' (2), expected c1" in problem.what


def test_another_plan_prepares_all_again(dataset: DatasetSpec, chosen: Chosen, make_plan: MakePlan, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    prepare(dataset, chosen, folder)
    before = written(folder)
    other = make_plan((1.2, 1.0, 0.9), schemes=(Normalization(scheme="rescale"),))
    with pytest.raises(ImageError, match="2 cases are not prepared: found c0, c1"):
        open_cases(*other, folder, ["c0", "c1"])
    prepare(dataset, other, folder)
    after = written(folder)
    assert all(after[name] != before[name] for name in before if name.endswith(".json"))


def test_the_recipe_is_what_decides_the_arrays(make_plan: MakePlan) -> None:
    """Patch, batch and names do not change the prepared arrays; spacing, axis order, labels and normalisation do."""
    recipe = recipe_of(*make_plan())
    assert recipe == recipe_of(*make_plan(patch=(16, 16, 16)))
    others = [
        make_plan((1.0, 1.0, 2.0)),
        make_plan(transpose=(1, 0, 2)),
        make_plan(values=(1, 3)),
        make_plan(schemes=(Normalization(scheme="zscore", use_mask=True),)),
        make_plan((1.0, 1.0)),
    ]
    assert len({recipe, *(recipe_of(*other) for other in others)}) == 6


def with_loss(chosen: Chosen, **loss: Any) -> Chosen:
    return chosen[0].model_copy(update={"loss": LossSpec(kind="border_ce", **loss)}), chosen[1]


def test_border_weights_are_prepared_with_the_case_where_the_loss_asks_for_them(
    dataset: DatasetSpec, chosen: Chosen, tmp_path: Path
) -> None:
    folder, bordered = tmp_path / "store", with_loss(chosen, objects=(1, 2))
    labels = np.zeros((12, 11, 10), np.uint8)
    labels[2:4, 3:6, 3:5], labels[7:9, 3:6, 3:5] = 1, 2
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([1.0, 1.2, 1.5, 1.0])), dataset.root / "labelsTr" / "c1.nii.gz")
    prepare(dataset, bordered, folder)
    store, stored = open_cases(*bordered, folder, ["c1"])
    opened = store.open(stored[0])
    assert opened.border[:].any()
    np.testing.assert_array_equal(opened.border[:], border_weights(opened.labels[:], bordered[0].loss))
    before = written(folder)
    prepare(dataset, bordered, folder)
    prepare(dataset, with_loss(chosen, objects=(1, 2), class_weights=(1.0, 2.0, 3.0)), folder)  # which is not part of the arrays
    assert written(folder) == before
    store.border_file("c1").unlink()
    prepare(dataset, bordered, folder)
    assert {name.split(".")[0] for name, when in written(folder).items() if before[name] != when} == {"c1"}
    with pytest.raises(ImageError, match="not prepared"):
        open_cases(*with_loss(chosen, objects=(1,)), folder, ["c0"])


def test_the_recipe_knows_the_border_and_other_losses_leave_it_as_it_was(chosen: Chosen) -> None:
    plain = recipe_of(*chosen)
    assert recipe_of(*with_loss(chosen)) == recipe_of(*with_loss(chosen, class_weights=(1.0, 2.0, 3.0))) == plain
    losses = [{"objects": (1,)}, {"objects": (0,)}, {"objects": (1,), "border_weight": 5.0}, {"objects": (1,), "border_sigma_px": 3.0}]
    assert len({plain, *(recipe_of(*with_loss(chosen, **loss)) for loss in losses)}) == 5


def test_a_loss_that_does_not_fit_is_refused_before_any_work(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class_weights"):
        prepare(dataset, with_loss(chosen, class_weights=(1.0,)), tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_problem_is_collected_and_the_good_cases_are_prepared(
    dataset: DatasetSpec, chosen: Chosen, tmp_path: Path, workers: int
) -> None:
    write_case(dataset.root, 0, fill=np.nan)
    write_case(dataset.root, 1, value=9)
    (dataset.root / "labelsTr" / "c2.nii.gz").unlink()
    with pytest.raises(DatasetError, match="Dataset001_Test: 3 of 4 cases could not be prepared") as caught:
        prepare(dataset, chosen, tmp_path / "store", workers)
    problems = {problem.case: problem.what for problem in caught.value.problems}
    assert list(problems) == ["c0", "c1", "c2"]
    assert "NaN" in problems["c0"]
    assert "label values that dataset.json does not name: found 9" in problems["c1"]
    assert "c2.nii.gz" in problems["c2"]
    assert Store(tmp_path / "store", recipe_of(*chosen)).find("c3") is not None


def test_image_and_label_map_must_share_their_grid(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    path = dataset.root / "labelsTr" / "c1.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((12, 11, 9), np.uint8), np.diag([1.0, 1.2, 1.5, 1.0])), path)
    with pytest.raises(DatasetError) as caught:
        prepare(dataset, chosen, tmp_path / "store")
    assert "c1: image and label map differ in shape 10×11×12 and 9×11×12" in caught.value.problems[0].what


def test_a_store_that_cannot_be_written_is_no_fault_of_the_cases(dataset: DatasetSpec, chosen: Chosen, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ArtefactError, match="cannot be written"):
        prepare(dataset, chosen, tmp_path / "file" / "store")


@pytest.fixture
def second(chosen: Chosen) -> Chosen:
    """The same, as the second stage of a cascade."""
    plan, entry = chosen
    entry = entry.model_copy(update={"name": "3d_cascade_fullres", "previous_stage": "3d_lowres"})
    return plan.model_copy(update={"configurations": {entry.name: entry}}), entry


def predicted(dataset: DatasetSpec, folder: Path, shift: float = 0.0) -> dict[str, Path]:
    """By case, a first stage's label map: the true labels exchanged."""
    folder.mkdir(exist_ok=True)
    maps = {}
    for case in dataset.cases:
        truth = np.asarray(nibabel.load(case.label).dataobj)
        maps[case.id] = folder / f"{case.id}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.array([0, 2, 1], np.uint8)[truth], np.diag([1.0, 1.2, 1.5 + shift, 1.0])), maps[case.id])
    return maps


def test_a_first_stages_label_maps_are_prepared_like_labels(dataset: DatasetSpec, second: Chosen, tmp_path: Path) -> None:
    """Cropped and resampled with the image; a file that changes is prepared again, the other cases are kept."""
    (plan, entry), maps, folder = second, predicted(dataset, tmp_path / "maps"), tmp_path / "store"
    prepare_dataset(dataset, plan, {entry.name: folder}, Runtime(workers=0), maps)
    store, stored = open_cases(plan, entry, folder, [case.id for case in dataset.cases])
    for case in stored:
        opened = store.open(case)
        labels, previous = opened.labels[:], opened.previous[:]
        assert previous.shape == labels.shape
        np.testing.assert_array_equal(previous > 0, labels > 0)
        np.testing.assert_array_equal(previous[labels > 0], 3 - labels[labels > 0])
    before = written(folder)
    prepare_dataset(dataset, plan, {entry.name: folder}, Runtime(workers=0), maps)
    assert written(folder) == before
    nibabel.save(nibabel.Nifti1Image(np.zeros((12, 11, 10), np.uint8), np.diag([1.0, 1.2, 1.5, 1.0])), maps["c1"])
    prepare_dataset(dataset, plan, {entry.name: folder}, Runtime(workers=0), maps)
    assert {name.split(".")[0] for name, when in written(folder).items() if before[name] != when} == {"c1"}
    store, stored = open_cases(plan, entry, folder, ["c1"])
    assert not (store.open(stored[0]).previous[:] > 0).any()


def test_first_stages_label_maps_that_are_missing_or_on_another_grid(dataset: DatasetSpec, second: Chosen, tmp_path: Path) -> None:
    (plan, entry), maps = second, predicted(dataset, tmp_path / "maps", shift=0.5)
    with pytest.raises(DatasetError, match="4 of 4") as caught:
        prepare_dataset(dataset, plan, {entry.name: tmp_path / "store"}, Runtime(workers=0), maps)
    assert all("label map and the image differ in spacing" in problem.what for problem in caught.value.problems)
    del maps["c2"]
    with pytest.raises(DatasetError) as caught:
        prepare_dataset(dataset, plan, {entry.name: tmp_path / "store"}, Runtime(workers=0), maps)
    assert "c2: no label map of 3d_lowres" in str(caught.value.problems[2].what)
