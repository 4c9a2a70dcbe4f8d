"""``autounet demo``: the whole job on a generated dataset, with the public commands, in a few minutes on a CPU."""

from collections.abc import Callable
from pathlib import Path

import typer

from autounet.cli.pictures import Files, draw_overlays
from autounet.cli.session import Session, check_writable, parse_duration
from autounet.dataset_json import read_labels_of
from autounet.evaluation.folders import evaluate_cases
from autounet.image_names import image_files, split_ending
from autounet.phantom import write_phantom


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
    picture = _picture(dataset, predictions, truths, folder / "demo.png", session)
    session.screen.result(f"Image, truth, prediction and errors of the test volumes: {picture}")


def _picture(dataset: Path, predictions: Path, truths: Path, path: Path, session: Session) -> Path:
    """One row per test volume."""
    files = {
        case: Files(dataset / "imagesTs" / f"{case}_0000.nii.gz", truth, predictions / truth.name)
        for truth in image_files(truths)
        if (case := split_ending(truth)[0])
    }
    labels = read_labels_of(dataset)
    scores = evaluate_cases({case: (entry.prediction, entry.truth) for case, entry in files.items()}, labels, session.runtime)
    draw_overlays(files, scores, labels, path, "autounet demo: test volumes that the network has not seen")
    return path
