"""Real datasets: what is found in them was looked at and is there, and nothing else is found."""

from pathlib import Path

from autounet.dataset import DatasetSpec, read_dataset
from autounet.folds import standard_folds
from autounet.health.examine import examine
from autounet.health.findings import Health
from autounet.runtime import Runtime


def examined(root: Path, cases: int | None = None, patients: dict[str, str] | None = None) -> Health:
    """Findings in the first so many cases."""
    dataset: DatasetSpec = read_dataset(root)
    dataset = dataset.model_copy(update={"cases": dataset.cases[:cases]})
    return examine(dataset, standard_folds([case.id for case in dataset.cases], patients or {}), Runtime(workers=2))


def test_neighbouring_slices_of_a_stack_have_nothing(shared: Path) -> None:
    assert examined(shared / "data" / "Dataset101_EM").findings == ()


def test_hippocampi_have_scanners_of_different_scales(shared: Path) -> None:
    health = examined(shared / "data" / "Task04_Hippocampus", 60)
    assert {(finding.kind, finding.severity) for finding in health.findings} <= {("brightness", "notice")}


def test_two_heartbeats_of_a_patient_are_alike(shared: Path) -> None:
    """Every likeness is one of a patient; the only other finding is a speck of right ventricle two slices away from the rest."""
    health = examined(shared / "data" / "Dataset102_Cardiac", 20)
    alike = [(finding.case, *finding.others) for finding in health.findings if finding.kind == "likeness"]
    assert len(alike) >= 4
    assert all(len({case.split("_")[0] for case in cases}) == 1 for cases in alike)
    assert {(finding.case, finding.kind) for finding in health.findings if finding.kind != "likeness"} <= {("patient002_frame12", "island")}


def test_patients_that_are_named_are_kept_together_and_nothing_leaks(shared: Path) -> None:
    names = [case.id for case in read_dataset(shared / "data" / "Dataset102_Cardiac").cases[:20]]
    health = examined(shared / "data" / "Dataset102_Cardiac", 20, {name: name.split("_")[0] for name in names})
    assert [finding.kind for finding in health.findings if "likeness" in finding.kind or "train" in finding.what] == []
