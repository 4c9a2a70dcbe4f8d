"""``autounet demo``: the whole job on a generated dataset, with the public commands, in a few minutes on a CPU."""

from collections.abc import Callable
from pathlib import Path

import typer

from autounet.cli.session import Session, check_writable, parse_duration
from autounet.dataset import image_files, split_ending
from autounet.dataset_json import read_labels_of
from autounet.evaluation.overlap import overlap
from autounet.images import read_image, read_labels
from autounet.phantom import write_phantom
from autounet.report.overlay import OverlayRow, overlay_figure


def run_demo(session: Session, run: Callable[[list[str]], int], folder: Path, budget: str, device: str) -> None:
    """Writes the phantoms and runs the public commands on them, each shown as a user would type it."""
    parse_duration(budget)
    check_writable(folder, "-o")
    session.screen.result("A dataset of 3D phantoms: 12 volumes to train on, 4 to test on")
    dataset = write_phantom(folder / "data")
    runs, predictions, truths = folder / "runs", folder / "predictions", dataset / "labelsTs"
    where = ["--runs", str(runs)]
    commands = [
        ["plan", "-d", str(dataset), "--preset", "small", *where],
        ["train", "-d", str(dataset), "-f", "0", "--budget", budget, "--device", device, *where],
        ["predict", "-i", str(dataset / "imagesTs"), "-o", str(predictions), "--overwrite", "--device", device, *where],
        ["evaluate", "-p", str(predictions), "-g", str(truths)],
    ]
    for command in commands:
        session.screen.result(f"\n$ autounet {' '.join(command)}")
        code = run(command)
        if code:
            raise typer.Exit(code)
    picture = _picture(dataset, predictions, truths, folder / "demo.png")
    session.screen.result(f"Image, truth, prediction and errors of the test volumes: {picture}")


def _picture(dataset: Path, predictions: Path, truths: Path, path: Path) -> Path:
    """One row per test volume. The labels of a phantom are its class indices."""
    labels = read_labels_of(dataset)
    rows = []
    for truth_file in image_files(truths):
        case = split_ending(truth_file)[0]
        image, grid = read_image(dataset / "imagesTs" / f"{case}_0000.nii.gz")
        truth, prediction = read_labels(truth_file)[0], read_labels(predictions / truth_file.name)[0]
        dice = {name: score.dice for name, score in overlap(prediction, truth, labels).items()}
        rows.append(OverlayRow(case, image[0], truth, prediction, grid.spacing_mm_zyx, dice))
    overlay_figure(rows, path, labels.names, "autounet demo: test volumes that the network has not seen")
    return path
