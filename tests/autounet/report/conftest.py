"""A dataset whose names are hostile, a run folder made from it without training, and its page."""

import json
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from autounet.dataset import read_dataset
from autounet.layout import RunLayout
from autounet.report.evidence import gather
from autounet.report.page import build_page
from autounet.runtime import Runtime

HOSTILE = "</script><script>document.title='owned'</script>"
"""A class, which is shown in tables, legends, charts and JSON."""

CASE = "box<b>&\"' {{1}} "
"""What case names begin with."""

ALONE = Runtime(device="cpu", workers=0)


@dataclass(frozen=True)
class Boxes:
    """The dataset and its run folder."""

    root: Path
    layout: RunLayout

    def page(self) -> str:
        return build_page(gather(self.layout), read_dataset(self.root), ALONE)


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """``make_run``: run folders as training leaves them. Tests are no package, so it is loaded by its place."""
    spec = spec_from_file_location("report_runs", Path(__file__).with_name("runs.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_boxes(root: Path, cases: int) -> Path:
    """Volumes of 12×20×24 voxels of 2.5×1×1 mm with a box (value 1) and in most cases a core (value 2); the last ones have none."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        labels = np.zeros((12, 20, 24), np.uint8)
        low = rng.integers(1, 4, 3)
        labels[low[0] : low[0] + 7, low[1] : low[1] + 10, low[2] : low[2] + 12] = 1
        if number < cases - 2:
            labels[4:7, 7:10, 8:12] = 2
        image = (100 + 40 * labels + 5 * rng.normal(size=labels.shape)).astype(np.int16)
        for folder, ending, array in (("imagesTr", "_0000", image), ("labelsTr", "", labels)):
            path = root / folder / f"{CASE}{number:02d}{ending}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(np.ascontiguousarray(array.T), np.diag([1.0, 1.0, 2.5, 1.0])), path)
    labels_named = {"background": 0, "box": 1, HOSTILE: 2}
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "<i>MRI</i>"}, "labels": labels_named, "file_ending": ".nii.gz", "numTraining": cases})
    )
    return root


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory, runs: ModuleType) -> Boxes:
    """Twenty cases; four folds of ``3d_fullres`` are trained and one of ``2d``. Not to be changed."""
    folder = tmp_path_factory.mktemp("report")
    root = write_boxes(folder / "Dataset021_Boxes", 20)
    return Boxes(root, runs.make_run(root, folder / "runs", {"3d_fullres": (0, 1, 2, 3), "2d": (0,)}))


@pytest.fixture(scope="session")
def page(boxes: Boxes) -> str:
    """The page of ``boxes``."""
    return boxes.page()
