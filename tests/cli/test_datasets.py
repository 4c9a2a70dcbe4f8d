"""Datasets of files where they lie, folds of one's own, patients together, and cases that come later."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autounet.cli.datasets import LOCK
from autounet.cli.locks import one_at_a_time
from autounet.dataset import read_dataset
from autounet.folds import separated
from autounet.images import read_labels
from autounet.selection import Selection
from autounet.splits import Splits, five_folds

Autounet = Callable[..., Any]


@pytest.fixture
def scans(tmp_path: Path, kit: SimpleNamespace) -> Path:
    """Images and label maps as a hospital has them: a folder for each patient and visit, T1 and T2, no number anywhere."""
    source = kit.write_volumes(tmp_path / "source")
    for number in range(6):
        visit = tmp_path / "ct scans" / f"Müller {number // 2}" / ("before", "after")[number % 2]
        visit.mkdir(parents=True)
        for name in ("T1", "T2"):
            shutil.copy(source / "imagesTr" / f"box_{number:02d}_0000.nii.gz", visit / f"{name}.nii.gz")
        shutil.copy(source / "labelsTr" / f"box_{number:02d}.nii.gz", visit / "seg.nii.gz")
    return tmp_path


PATTERNS = ("--images", "ct scans/*/*/T1.nii.gz", "--images", "ct scans/*/*/T2.nii.gz", "--labels", "ct scans/*/*/seg.nii.gz")


class TestCreate:
    def test_of_patterns(self, scans: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
        """Nothing is moved; names and channels come from the paths, classes from the label maps; the plan can be made at once."""
        before = kit.snapshot(scans / "ct scans")
        ended = autounet("dataset", "create", "Dataset007_Liver", *PATTERNS, "--patient", "{1}", cwd=scans)
        assert ended.code == 0, ended
        assert "channels are named T1, T2" in ended.err
        assert "label_1, label_3" in ended.text
        assert kit.snapshot(scans / "ct scans") == before
        assert kit.made_in(scans / "Dataset007_Liver") == {"dataset.json"}
        dataset = read_dataset(scans / "Dataset007_Liver")
        assert [case.id for case in dataset.cases][:2] == ["Müller_0_after", "Müller_0_before"]
        assert dataset.channels == ("T1", "T2")
        assert dataset.patients["Müller_2_after"] == "Müller 2"
        assert [(entry.name, entry.values) for entry in dataset.labels.classes] == [("label_1", (1,)), ("label_3", (3,))]
        planned = autounet("plan", "-d", "7", "--preset", "small", cwd=scans)
        assert planned.code == 0, planned
        shown = autounet("dataset", "show", "-d", "7", "--json", cwd=scans)
        assert json.loads(shown.out)["cases"][0]["patient"] == "Müller 0"
        assert "3, with 2 to 2 cases" in autounet("dataset", "show", "-d", "7", cwd=scans).text

    def test_it_is_nnunets_own_form(self, scans: Path, autounet: Autounet) -> None:
        """nnunetv2 2.8.1, get_filenames_of_train_images_and_targets: 'dataset', case → images and label, relative to the folder."""
        assert autounet("dataset", "create", "Dataset007_Liver", *PATTERNS, "--classes", "box=1,core=3", cwd=scans).code == 0
        content = json.loads((scans / "Dataset007_Liver" / "dataset.json").read_text(encoding="utf-8"))
        assert (content["numTraining"], content["file_ending"]) == (6, ".nii.gz")
        assert content["labels"] == {"background": 0, "box": 1, "core": 3}
        entry = content["dataset"]["Müller_1_before"]
        assert entry["images"] == ["../ct scans/Müller 1/before/T1.nii.gz", "../ct scans/Müller 1/before/T2.nii.gz"]
        assert (scans / "Dataset007_Liver" / entry["label"]).resolve() == scans / "ct scans/Müller 1/before/seg.nii.gz"

    def test_of_a_table(self, scans: Path, autounet: Autounet) -> None:
        rows = ["id;T1;T2;label;patient;fold;annotated"]
        for number in range(6):
            visit = f"ct scans/Müller {number // 2}/{('before', 'after')[number % 2]}"
            annotated = "box" if number == 0 else ""
            rows.append(f"c{number};{visit}/T1.nii.gz;{visit}/T2.nii.gz;{visit}/seg.nii.gz;{number // 2};{number // 2};{annotated}")
        (scans / "cases.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
        made = ("dataset", "create", "Dataset007_Liver", "--table", "cases.csv", "--channel", "T1", "--channel", "T2")
        ended = autounet(*made, "--classes", "box=1,core=3", cwd=scans)
        assert ended.code == 0, ended
        dataset = read_dataset(scans / "Dataset007_Liver")
        assert dataset.held_out == {f"c{number}": number // 2 for number in range(6)}
        assert dataset.cases[0].annotated == ("box",)
        assert "3 folds, as dataset.json says; 2 held out in each" in autounet("dataset", "show", "-d", "7", cwd=scans).text

    def test_patients_in_two_spellings(self, scans: Path, autounet: Autounet) -> None:
        """Composed umlauts or not, they are one; capitals and zeros may mean something, so that both are named."""
        cases = [("Müller 0/before", "A\u030aberg"), ("Müller 0/after", "\u00c5berg"), ("Müller 1/before", "p1"), ("Müller 1/after", "P01")]
        rows = [f"ct scans/{visit}/T1.nii.gz,ct scans/{visit}/seg.nii.gz,c{n},{who}" for n, (visit, who) in enumerate(cases)]
        (scans / "cases.csv").write_text("\n".join(["image,label,id,patient", *rows]), encoding="utf-8")
        ended = autounet("dataset", "create", "D", "--table", "cases.csv", "--channel", "T1", "--classes", "box=1,core=3", cwd=scans)
        assert ended.code == 0, ended
        assert "patients 'P01' and 'p1' count as two" in ended.text
        assert ended.text.count("count as two") == 1
        assert list(read_dataset(scans / "D").patients.values()) == ["\u00c5berg", "\u00c5berg", "p1", "P01"]
        assert "patients 'P01' and 'p1' count as two" in autounet("dataset", "show", "-d", "D", cwd=scans).text

    def test_a_dry_run_shows_and_writes_nothing(self, scans: Path, autounet: Autounet, kit: SimpleNamespace) -> None:
        before = kit.snapshot(scans)
        ended = autounet("dataset", "create", "Dataset007_Liver", *PATTERNS, "--class", "a", "--dry-run", cwd=scans)
        assert ended.code == 0, ended
        assert "Müller_2_before" in ended.text
        assert "not written" in ended.text
        assert kit.snapshot(scans) == before

    def test_what_is_there_is_replaced_only_when_asked(self, scans: Path, autounet: Autounet, refused: Autounet) -> None:
        command = ("dataset", "create", "Dataset007_Liver", *PATTERNS, "--classes", "box=1,core=3")
        assert autounet(*command, cwd=scans).code == 0
        before = (scans / "Dataset007_Liver" / "dataset.json").read_bytes()
        refused(2, ["is there already", "--overwrite"], *command, cwd=scans)
        assert (scans / "Dataset007_Liver" / "dataset.json").read_bytes() == before
        assert autounet(*command, "--overwrite", cwd=scans).code == 0

    @pytest.mark.parametrize(
        ("code", "words", "arguments"),
        [
            (2, ["from patterns or from a table"], ()),
            (2, ["--images without --labels"], ("--images", "ct scans/*/*/T1.nii.gz")),
            (2, ["--id with --table"], ("--table", "x.csv", "--id", "{1}")),
            (2, ["x.txt: not a table"], ("--table", "x.txt")),
            (1, ["x.csv: cannot be read"], ("--table", "x.csv")),
            (2, ["finds no image"], ("--images", "none/*", "--labels", "ct scans/*/*/seg.nii.gz")),
            (2, ["--class and --classes"], (*PATTERNS, "--class", "a", "--classes", "b=1")),
            (2, ["--classes a=1;b=2: malformed"], (*PATTERNS, "--classes", "a=1;b=2")),
            (2, ["1 × --channel for 2 × --images"], (*PATTERNS, "--channel", "T1")),
            (2, ["--id {3}: no wildcard 3"], (*PATTERNS, "--id", "{3}")),
            (1, ["is also that of"], (*PATTERNS, "--id", "{1}", "--class", "x")),
            (1, ["'labels' has no foreground class"], (*PATTERNS, "--classes", "a=0")),
        ],
    )
    def test_wrong_usage(self, code: int, words: list[str], arguments: tuple[str, ...], scans: Path, refused: Autounet) -> None:
        refused(code, words, "dataset", "create", "Dataset007_Liver", *arguments, cwd=scans)
        assert not (scans / "Dataset007_Liver" / "dataset.json").exists()

    def test_every_image_without_a_label_map_is_told(self, scans: Path, refused: Autounet) -> None:
        for number in (0, 2):
            (scans / f"ct scans/Müller {number}/after/seg.nii.gz").unlink()
        ended = refused(1, ["2 problems"], "dataset", "create", "Dataset007_Liver", *PATTERNS, "--class", "x", cwd=scans)
        assert ended.text.count("no file that goes with") == 2


class TestFolds:
    def test_ones_own_file_of_folds(self, trained: Any, runs_copy: Path, autounet: Autounet, refused: Autounet, tmp_path: Path) -> None:
        """Two folds; what was trained with the standard ones is not passed off as theirs."""
        where = ("-d", trained.cells, "--runs", runs_copy)
        folds = [{"train": ["cell_0", "cell_1"], "val": ["cell_2", "cell_3"]}, {"train": ["cell_2", "cell_3"], "val": ["cell_0", "cell_1"]}]
        path = tmp_path / "splits_final.json"
        path.write_text(json.dumps(folds))
        splits = runs_copy / trained.cells.name / "splits.json"
        before = splits.read_bytes()
        refused(2, ["trained, or begun, with other cases", "2d fold 0", "--overwrite"], "plan", *where, "--splits", path)
        assert splits.read_bytes() == before
        ended = autounet("plan", *where, "--splits", path, "--overwrite")
        assert ended.code == 0, ended
        assert "2 folds, yours, of splits_final.json" in ended.text
        assert "in no fold, neither trained nor scored: cell_4" in ended.text
        assert splits.with_name("splits.before.json").read_bytes() == before
        found = Splits.load(splits)
        assert (found.made_by, found.origin, len(found.folds)) == ("you", "splits_final.json", 2)
        short = ("--epochs", "1", "--iterations", "2", "--device", "cpu", "--workers", "1")
        refused(2, ["-f 2: no such fold", "expected 0, 1 or all"], "train", *where, "-f", "2", *short)
        refused(1, ["trained on other cases than fold 0 has now"], "train", *where, "-f", "0", *short)
        assert "2 training cases, 2 held out" in autounet("train", *where, "-f", "1", *short).err
        rows = [line.split("│")[1].strip() for line in autounet("run", *where, "--dry-run").out.splitlines() if "│ train " in line]
        assert rows == ["train 2d fold 0", "train 2d fold 1"]
        shutil.rmtree(runs_copy / trained.cells.name / "models" / "2d" / "fold_0")
        selected = autounet("select", *where)
        assert selected.code == 0, selected
        assert "2d lacks fold 0" in selected.text
        assert Selection.load(runs_copy / trained.cells.name / "selection.json").cases == 2
        assert autounet("report", *where).code == 0

    def test_folds_that_are_wrong_are_refused(self, trained: Any, runs_copy: Path, refused: Autounet, tmp_path: Path) -> None:
        path, before = tmp_path / "folds.json", (runs_copy / trained.cells.name / "splits.json").read_bytes()
        for folds, words in (
            ([{"train": ["cell_0", "nobody"], "val": ["cell_1"]}], ["fold 0 cannot be used", "unknown cases nobody"]),
            ([{"train": ["cell_0", "cell_1"], "val": ["cell_1"]}], ["cell_1 in training and validation"]),
            ([], ["no folds in it"]),
        ):
            path.write_text(json.dumps(folds))
            refused(1, words, "plan", "-d", trained.cells, "--runs", runs_copy, "--splits", path)
        refused(2, ["--splits with --fingerprint"], "plan", "--fingerprint", "x.json", "--splits", path)
        assert (runs_copy / trained.cells.name / "splits.json").read_bytes() == before

    def test_patients_stay_together(self, scans: Path, kit: SimpleNamespace, autounet: Autounet) -> None:
        """Six patients with two cases each: four folds hold out one of them, one holds out two."""
        more = kit.write_volumes(scans / "Dataset008_More", cases=12)
        patients = {f"box_{number:02d}": f"p{number // 2}" for number in range(12)}
        kit.edit_json(more / "dataset.json", groups=patients)
        assert autounet("train", "-d", more, "-f", "0", "--preset", "small", *kit.short, "--runs", scans / "runs").code == 0
        folds = Splits.load(scans / "runs" / more.name / "splits.json").folds
        assert separated(folds, patients) == {}
        assert sorted(len(fold.validation) for fold in folds) == [2, 2, 2, 2, 4]

    def test_too_few_patients_are_told_before_any_work(self, scans: Path, autounet: Autounet, refused: Autounet) -> None:
        create = ("dataset", "create", "Dataset007_Liver", *PATTERNS, "--patient", "{1}", "--classes", "box=1,core=3")
        assert autounet(*create, cwd=scans).code == 0
        refused(1, ["at least five patients", "3 patients with 6 cases", "--splits"], "train", "-d", "7", "-f", "0", cwd=scans)
        assert not (scans / "autounet_runs").exists()


def add_boxes(data: Path, kit: SimpleNamespace, *numbers: int) -> None:
    """Puts further cases into the folders of the dataset of boxes."""
    more = kit.write_volumes(data.parent / "more", cases=10)
    for number in numbers:
        for name in (f"imagesTr/box_{number:02d}_0000.nii.gz", f"labelsTr/box_{number:02d}.nii.gz"):
            shutil.copy(more / name, data / name)


class TestGrowing:
    def test_new_files_in_the_folders(
        self, trained: Any, runs_copy: Path, tmp_path: Path, autounet: Autounet, kit: SimpleNamespace
    ) -> None:
        """Only the new cases are read and prepared; the trained fold stays, its scores stay, and all of it is told."""
        data = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name))
        run, where = runs_copy / data.name, ("-d", data, "--runs", runs_copy)
        before = Splits.load(run / "splits.json")
        prepared = kit.snapshot(run / "prepared")
        weights = kit.snapshot(run / "models" / "3d_fullres" / "fold_0")
        add_boxes(data, kit, 6, 7, 8)
        again = autounet("train", *where, "-f", "0", *kit.short)
        assert again.code == 0, again
        assert "new cases are held out so: fold 1 box_06; fold 2 box_07; fold 3 box_08" in again.text
        assert "trained without 3 cases that this fold has now (box_06, box_07, box_08); --overwrite trains anew" in again.text
        assert {path: kit.snapshot(run / "prepared")[path] for path in prepared} == prepared
        assert {path: kit.snapshot(run / "models")[path] for path in weights if "lock" not in path} == {
            path: state for path, state in weights.items() if "lock" not in path
        }
        now = Splits.load(run / "splits.json")
        assert now.made_by == "grown"
        assert all(set(a.validation) <= set(b.validation) for a, b in zip(before.folds, now.folds, strict=True))
        selected = autounet("select", *where)
        assert "3d_fullres was trained without 3 new cases in some folds" in selected.text

    def test_a_new_case_that_a_trained_fold_holds_out_is_scored(
        self, trained: Any, runs_copy: Path, tmp_path: Path, autounet: Autounet, refused: Autounet, kit: SimpleNamespace
    ) -> None:
        """Six cases more: fold 0, which had most, gets one as well."""
        data = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name))
        run, where = runs_copy / data.name, ("-d", data, "--runs", runs_copy)
        held_out = Splits.load(run / "splits.json").folds[0].validation
        maps = kit.snapshot(run / "models" / "3d_fullres" / "fold_0" / "validation")
        add_boxes(data, kit, 6, 7, 8, 9)
        add = Path(shutil.copytree(data.parent / "more", tmp_path / "elsewhere"))
        for number in (0, 1):  # the files of other cases, under another name and elsewhere
            kit.save_nifti(add / f"x{number}.nii.gz", np.full((20, 24, 28), 50 + number, np.int16) + np.arange(28, dtype=np.int16))
        (add / "cases.csv").write_text("id,image,label\nx0,x0.nii.gz,labelsTr/box_00.nii.gz\nx1,x1.nii.gz,labelsTr/box_01.nii.gz\n")
        added = autounet("dataset", "add", *where, "--table", add / "cases.csv")
        assert added.code == 0, added
        assert "2 cases more, 12 now: x0, x1" in added.text
        assert "lists the cases from now on" in added.text
        shown = autounet("run", *where, "--dry-run", "-f", "0", "-c", "3d_fullres")
        assert "goes on" in shown.text
        refused(1, ["cases have changed since these folds were made"], "select", *where)
        again = autounet("train", *where, "-f", "0", *kit.short)
        assert again.code == 0, again
        now = Splits.load(run / "splits.json").folds[0].validation
        assert len(now) == 3
        assert set(held_out) < set(now)
        assert "1 new held-out case: predicting it, scoring all" in again.text
        after = kit.snapshot(run / "models" / "3d_fullres" / "fold_0" / "validation")
        assert {path: after[path] for path in maps} == maps, "what was predicted is kept"
        assert list(json.loads((run / "models/3d_fullres/fold_0/scores.json").read_text())["cases"]) == list(now)

    def test_nothing_is_kept_of_folds_with_which_nothing_was_trained(
        self, trained: Any, runs_copy: Path, tmp_path: Path, autounet: Autounet, kit: SimpleNamespace
    ) -> None:
        """They are nnU-Net's of all cases then; but folds that somebody made are never replaced."""
        data = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name))
        run, where = runs_copy / data.name, ("-d", data, "--runs", runs_copy)
        shutil.rmtree(run / "models")
        add_boxes(data, kit, 6)
        names = [f"box_{number:02d}" for number in range(7)]
        shown = json.loads(autounet("dataset", "show", *where, "--json").out)
        assert [case["id"] for case in shown["cases"]] == names
        from autounet.cli.folding import planned_splits
        from autounet.layout import RunLayout

        assert planned_splits(read_dataset(data), RunLayout(run)).folds == five_folds(names)
        raw = json.loads((run / "splits.json").read_text())
        (run / "splits.json").write_text(json.dumps({**raw, "folds": raw["folds"][:2]}))
        grown = planned_splits(read_dataset(data), RunLayout(run))
        assert grown.made_by == "you"
        assert [len(fold.validation) for fold in grown.folds] == [2, 2]

    def test_the_plan_is_kept_unless_it_is_asked_for_anew(
        self, trained: Any, runs_copy: Path, tmp_path: Path, autounet: Autounet, kit: SimpleNamespace
    ) -> None:
        """Images twice as large come in, for which the patch would be larger, and the trained fold of another plan."""
        data = kit.write_cells(tmp_path / trained.cells.name, cases=12)
        for path in data.rglob("*.png"):
            if (trained.cells / path.relative_to(data)).exists():
                shutil.copy2(trained.cells / path.relative_to(data), path)
            else:
                Image.fromarray(np.kron(np.asarray(Image.open(path)), np.ones((2, 2), np.uint8))).save(path)
        plan, where = runs_copy / data.name / "plan.json", ("-d", data, "--runs", runs_copy)
        before = plan.read_bytes()
        for _ in range(2):
            ended = autounet("plan", *where)
            assert ended.code == 0, ended
            assert "plan.json is kept, though the cases have changed" in ended.text
            assert "made anew for these cases, with --overwrite, it would say: " in ended.text
            assert "patch size 48×56 → 96×112" in ended.text
            assert plan.read_bytes() == before
        assert "plan.json is kept" in autounet("preprocess", *where).text
        anew = autounet("plan", *where, "--overwrite")
        assert "these models were trained with the old plan" in anew.text
        assert plan.read_bytes() != before
        assert "is kept" not in autounet("plan", *where).text

    def test_what_cannot_be_added(self, trained: Any, tmp_path: Path, refused: Autounet) -> None:
        data = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name))
        before = (data / "dataset.json").read_bytes()
        table = tmp_path / "cases.csv"
        for row, words in (
            ("box_00,{0}/imagesTr/box_00_0000.nii.gz,{0}/labelsTr/box_00.nii.gz", ["has a case 'box_00'", "belongs to case 'box_00'"]),
            ("new,{0}/imagesTr/box_00_0000.nii.gz,gone.nii.gz", ["label map not found"]),
        ):
            table.write_text(f"id,image,label\n{row.format(data.name)}\n")
            refused(1, words, "dataset", "add", "-d", data, "--table", table)
        assert (data / "dataset.json").read_bytes() == before


def test_two_that_add_at_once_lose_nothing(trained: Any, tmp_path: Path) -> None:
    """Two processes, each with three cases of its own; a third that only looks waits for nobody."""
    data = Path(shutil.copytree(trained.volumes, tmp_path / trained.volumes.name))
    commands = []
    for who in ("ann", "bob"):
        for number in range(3):
            for folder, name in (("imagesTr", f"box_{number:02d}_0000"), ("labelsTr", f"box_{number:02d}")):
                (tmp_path / who / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(data / folder / f"{name}.nii.gz", tmp_path / who / folder / f"{who}_{number}.nii.gz")
        patterns = ("--images", f"{who}/imagesTr/*.nii.gz", "--labels", f"{who}/labelsTr/*.nii.gz")
        commands.append([sys.executable, "-m", "autounet", "dataset", "add", "-d", str(data), *patterns])
    # Both wait until the test, as a third, gives the way free: then both have read their arguments and begin together.
    with one_at_a_time(data / LOCK, lambda holder: None):
        running = [
            subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands
        ]
        for process in running:
            assert process.stdout is not None
            assert "waiting for another autounet command" in process.stdout.readline()
        dry = subprocess.run([*commands[0], "--dry-run"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert dry.returncode == 0, dry
    for process in running:
        text, _ = process.communicate(timeout=60)
        assert process.returncode == 0, text
    cases = [case.id for case in read_dataset(data).cases]
    assert cases == sorted([f"{who}_{number}" for who in ("ann", "bob") for number in range(3)] + [f"box_{n:02d}" for n in range(6)])
    assert not (data / LOCK).exists()


def test_predict_takes_a_table(trained: Any, tmp_path: Path, autounet: Autounet, refused: Autounet) -> None:
    """Label maps are named by the column id; the table may be the one that the dataset was made of."""
    image = trained.volumes / "imagesTr" / "box_00_0000.nii.gz"
    (tmp_path / "new.csv").write_text(f"id;image;label;patient\nfirst visit;{image};gone.nii.gz;p1\n")
    rest = ("-o", tmp_path / "out", "-d", "11", "--runs", trained.runs, "--no-mirror", "--device", "cpu")
    ended = autounet("predict", "-i", tmp_path / "new.csv", *rest)
    assert ended.code == 0, ended
    assert read_labels(tmp_path / "out" / "first_visit.nii.gz")[0].shape == (20, 24, 28)
    (tmp_path / "two.csv").write_text(f"image_0,image_1\n{image},{trained.volumes / 'imagesTr' / 'box_01_0000.nii.gz'}\n")
    refused(1, ["row 2", "2 images, but the model has 1 channel"], "predict", "-i", tmp_path / "two.csv", *rest)
    (tmp_path / "none.csv").write_text("image\nnowhere.nii.gz\n")
    refused(1, ["row 2", "image not found"], "predict", "-i", tmp_path / "none.csv", *rest)


@pytest.mark.parametrize("kind", ["seg", "rtstruct"])
def test_segments_and_contours_become_label_maps(kind: str, shared: Path, tmp_path: Path, autounet: Autounet, refused: Autounet) -> None:
    """Drawn once, on the images' grid, by their names; the dataset has them for label maps from then on."""
    pytest.importorskip("highdicom")
    from autounet.images import dicom_seg, read_image, rtstruct, write_labels
    from autounet.images.meaning import Meaning, Structure

    series = shared / "data" / "dicom" / "Study1" / "13_HCropVolume"
    image, grid = read_image(series)
    truth = np.zeros(image.shape[1:], np.uint8)
    z, y, x = (size // 4 for size in truth.shape)
    truth[z : 2 * z, y : 2 * y, x : 2 * x] = 1
    truth[2 * z : 3 * z, y : 2 * y, x : 2 * x] = 2
    structures = [("Left_Liver", 1), ("tumour", 2), ("spine", 3)]
    meaning = Meaning(
        structures=tuple(Structure(name=name, value=value, values=(value,), colour="#ff0000") for name, value in structures[:2])
    )
    case = tmp_path / "study" / "case A"
    case.mkdir(parents=True)
    write_labels(case / "image.nii.gz", truth + 100, grid)  # any image on this grid
    {"seg": dicom_seg, "rtstruct": rtstruct}[kind].write(case / "drawn.dcm", truth, grid, series, meaning)
    create = ("dataset", "create", "Dataset009_Drawn", "--images", "study/*/image.nii.gz", "--labels", "study/*/drawn.dcm")
    refused(2, ["DICOM segments or contours", "--classes"], *create, cwd=tmp_path)
    refused(1, ["structures of 1 case cannot be drawn", "kidney"], *create, "--class", "kidney", cwd=tmp_path)
    assert not (tmp_path / "Dataset009_Drawn" / "dataset.json").exists()
    ended = autounet(*create, "--classes", "left liver=1,tumour=2", cwd=tmp_path)
    assert ended.code == 0, ended
    (made,) = read_dataset(tmp_path / "Dataset009_Drawn").cases
    assert made.label == tmp_path / "Dataset009_Drawn" / "labelsTr" / "case_A.nii.gz"
    drawn, where = read_labels(made.label)
    assert grid.differences(where) == []
    np.testing.assert_array_equal(drawn, truth)
