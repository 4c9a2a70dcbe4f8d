"""``autounet predict``: label maps for new images, from all trained folds, on the images' own grids."""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autounet.cli.console import duration
from autounet.cli.session import Session
from autounet.dataset import IMAGE_ENDINGS, group_channels, image_files, matching_folders, split_ending
from autounet.errors import AutounetError, DatasetError, UsageError
from autounet.inference.model import Ensemble, choose_trained
from autounet.inference.run import PredictionJob, predict_cases
from autounet.inference.validate import label_ending
from autounet.layout import RunLayout
from autounet.plan import Plan


@dataclass(frozen=True, slots=True)
class Request:
    """What to predict, with what."""

    images: Path
    output: Path
    configuration: str | None
    folds: str | None
    mirror: bool
    overwrite: bool


def run_predict(session: Session, layout: RunLayout, request: Request) -> None:
    """Predicts every image that has no label map yet, and reports what was done and what failed."""
    images, output = request.images, request.output
    asked = None if request.folds is None else [part.strip() for part in request.folds.split(",") if part.strip()]
    trained = choose_trained(layout, request.configuration, asked)
    plan = Plan.load(layout.plan)
    chosen = plan.configurations.get(trained[0].configuration)
    if chosen is None:
        raise UsageError(f"{trained[0].configuration} is trained but not in {layout.plan}", expected=", ".join(plan.configurations))
    cases = find_inputs(images, len(plan.channels))
    outputs = name_outputs(cases, output)
    jobs = [PredictionJob(case, files, outputs[case]) for case, files in cases.items()]
    todo = [job for job in jobs if request.overwrite or not job.output.exists()]
    check_writable(output.parent if is_image_name(output) else output)
    folds = ", ".join(entry.fold for entry in trained)
    session.screen.say(
        f"{plan.dataset}, {chosen.name}, fold{'s' if len(trained) > 1 else ''} {folds}: {len(todo)} images"
        + (f", {len(jobs) - len(todo)} are predicted already (--overwrite predicts them anew)" if len(todo) < len(jobs) else "")
    )
    began = time.monotonic()
    problems = []
    if todo:
        ensemble = Ensemble(plan, chosen, [entry.weights for entry in trained], session.runtime)
        problems = predict_cases(ensemble, ensemble.device, plan, chosen, todo, session.runtime, request.mirror)
    done = len(todo) - len(problems)
    session.screen.result(
        f"{done} predicted in {duration(time.monotonic() - began)}, {len(jobs) - len(todo)} skipped, {len(problems)} failed"
    )
    session.screen.json(
        {
            "predicted": [str(job.output) for job in todo if job.case not in {problem.case for problem in problems}],
            "skipped": [str(job.output) for job in jobs if job not in todo],
            "failed": {problem.case: problem.what for problem in problems},
            "folds": [entry.fold for entry in trained],
            "configuration": chosen.name,
        }
    )
    if problems:
        raise DatasetError(f"{len(problems)} of {len(todo)} images could not be predicted; the others are done", problems=problems)


def choose_layout(session: Session, dataset: str | None, model: Path | None) -> RunLayout:
    """The run folder that is meant. Raises UsageError."""
    if model is not None and dataset is not None:
        raise UsageError("give -d or -m, not both")
    if model is not None:
        layout = RunLayout(model)
        if not layout.plan.exists():
            raise UsageError(f"-m {model}: not a run folder", expected="a folder with plan.json and models/")
        return layout
    trained = sorted(path.parents[3] for path in session.runs.glob("*/models/*/fold_*/weights.safetensors"))
    there = list(dict.fromkeys(trained))
    if dataset is not None:
        name = Path(dataset).name
        matches = matching_folders(name, [folder.name for folder in there])
        if len(matches) != 1:
            raise UsageError(
                f"-d {dataset}: {'no trained model of this dataset' if not matches else 'ambiguous'} in {session.runs}",
                found=", ".join(matches or [folder.name for folder in there]) or "no trained models",
                remedy="train one with `autounet train`, or name the folder of runs with --runs",
            )
        return RunLayout(session.runs / matches[0])
    if not there:
        raise UsageError(
            f"{session.runs}: no trained model", remedy="train one with `autounet train`, or name the folder of runs with --runs"
        )
    if len(there) > 1:
        raise UsageError(
            "several trained datasets: say which with -d", found=", ".join(folder.name for folder in there), expected="one of them"
        )
    session.screen.say(f"using {there[0]}, the only trained dataset")
    return RunLayout(there[0])


def find_inputs(images: Path, channels: int) -> dict[str, tuple[Path, ...]]:
    """Cases to predict: name → files, one per channel or one with all. Raises UsageError or DatasetError."""
    if images.is_file():
        stem, ending = split_ending(images)
        if not ending:
            raise UsageError(f"-i {images}: not an image", expected=f"one of {' '.join(IMAGE_ENDINGS)}")
        if channels > 1 and stem.endswith("_0000"):
            groups = group_channels([file for file in image_files(images.parent) if split_ending(file)[0][:-5] == stem[:-5]])
            return {stem[:-5]: groups[stem[:-5]]}
        return {stem.removesuffix("_0000"): (images,)}
    if not images.is_dir():
        raise UsageError(f"-i {images}: no such file or folder")
    files = image_files(images)
    if not files:
        raise UsageError(f"-i {images}: no images in this folder", expected=f"files ending in {' '.join(IMAGE_ENDINGS)}")
    groups = group_channels(files)
    endings: dict[str, list[str]] = {}
    for file in files:
        endings.setdefault(split_ending(file)[0], []).append(file.name)
    twice = [names for names in endings.values() if len(names) > 1]
    if twice:
        raise UsageError(f"-i {images}: two images of the same name", found=", ".join(twice[0]), remedy="keep one of them in the folder")
    return groups


def name_outputs(cases: dict[str, tuple[Path, ...]], output: Path) -> dict[str, Path]:
    """Where each case goes: the output folder, with the image's ending (PNG for JPEG); or the file named for a single image."""
    if is_image_name(output) and not output.is_dir():
        if len(cases) != 1:
            raise UsageError(f"-o {output}: a file for {len(cases)} images", expected="a folder")
        if split_ending(output)[1].lower() in (".jpg", ".jpeg"):
            raise UsageError(f"-o {output}: JPEG changes label values", expected="another file type, such as .png")
        outputs = {next(iter(cases)): output}
    else:
        outputs = {case: output / f"{case}{label_ending(split_ending(files[0])[1])}" for case, files in cases.items()}
    inputs = {file.resolve() for files in cases.values() for file in files}
    clash = [path for path in outputs.values() if path.resolve() in inputs]
    if clash:
        raise UsageError(f"-o {output}: would replace the image {clash[0]}", remedy="choose another folder")
    return outputs


def is_image_name(path: Path) -> bool:
    """Whether a path names an image file rather than a folder."""
    return bool(split_ending(path)[1])


def check_writable(folder: Path) -> None:
    """Makes the folder and tries to write to it. Raises AutounetError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise AutounetError(
            f"{folder}: cannot be written", found=error.strerror or os.strerror(error.errno or 0), remedy="choose another folder with -o"
        ) from None
