"""Asking for help and planning are quick: they load none of the heavy libraries. Each question is put to a new interpreter."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "scipy", "matplotlib", "SimpleITK", "nibabel", "tifffile", "PIL", "skimage", "blosc2"}

PROGRAM = """
import json, sys
sys.argv = ["autounet", *json.loads(sys.argv[1])]
from autounet.cli.main import main
code = 0
try:
    if len(sys.argv) > 1:
        code = main()
except SystemExit as stop:
    code = stop.code
with open({report!r}, "w") as file:
    json.dump({{"code": code or 0, "modules": sorted({{name.split(".")[0] for name in sys.modules}})}}, file)
"""


def modules_after(arguments: list[str], folder: Path) -> set[str]:
    """Top-level modules loaded by ``autounet ARGUMENTS``, which must succeed; without arguments, by importing the command line."""
    report = folder / "report.json"
    command = [sys.executable, "-c", PROGRAM.format(report=str(report)), json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(report.read_text())
    assert answer["code"] == 0, done.stdout + done.stderr
    return set(answer["modules"])


def test_importing_the_command_line_is_light(tmp_path: Path) -> None:
    loaded = modules_after([], tmp_path)
    assert "autounet" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("command", [[], ["plan"], ["train"], ["predict"]], ids=lambda words: " ".join(words) or "autounet")
def test_help_is_light(command: list[str], tmp_path: Path) -> None:
    assert modules_after([*command, "--help"], tmp_path) & HEAVY == set()


def test_planning_never_loads_torch_nor_does_preparing_what_lies_on_its_grid(tmp_path: Path) -> None:
    """Whole commands on five small images: what the plan needs of a network is counted, not built, and nothing is resampled."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "Dataset007_Cubes"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in range(5):
        labels = np.zeros((16, 18, 20), np.uint8)
        labels[4:10, 5:12, 6:14] = 1
        image = (rng.normal(size=labels.shape) + 3 * labels + 10).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "imagesTr" / f"cube_{case}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labelsTr" / f"cube_{case}.nii.gz")
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "cube": 1}, "numTraining": 5, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))

    loaded = modules_after(["plan", "-d", str(folder), "--runs", str(tmp_path / "runs")], tmp_path)

    assert (tmp_path / "runs" / "Dataset007_Cubes" / "plan.json").is_file()
    assert "torch" not in loaded
    loaded = modules_after(["preprocess", "-d", str(folder), "--runs", str(tmp_path / "runs")], tmp_path)
    assert len(list((tmp_path / "runs" / "Dataset007_Cubes" / "prepared" / "3d_fullres").glob("*.json"))) == 5
    assert "torch" not in loaded
