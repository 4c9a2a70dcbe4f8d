"""The held-out cases of all folds together: their scores, and those of ensembles of configurations on the same cases."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autounet.artefact import digest_of, file_digest, remove_leftovers, write_text_atomic
from autounet.checkpoint import weights_identity
from autounet.dataset import Case, DatasetSpec
from autounet.errors import DatasetError, Problem
from autounet.evaluation.folders import evaluate_cases
from autounet.evaluation.scores import Scores
from autounet.images import read_size, write_labels
from autounet.inference.average import average_labels
from autounet.inference.model import TrainedFold, load_folds
from autounet.inference.run import PredictionJob, predict_cases
from autounet.inference.validate import images_digest, is_kept, label_ending, remove_predictions
from autounet.layout import RunLayout
from autounet.plan import Plan
from autounet.runtime import Runtime
from autounet.selection import JOIN
from autounet.splits import Splits

AT_A_TIME = 8
"""Cases whose probabilities are on disk together."""

SCRATCH = ".probabilities"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What all candidates are scored on."""

    dataset: DatasetSpec
    plan: Plan
    layout: RunLayout
    splits: Splits
    folds: tuple[str, ...]

    @property
    def cases(self) -> dict[str, Case]:
        """The held-out cases of the folds, sorted by name."""
        held_out = {case for fold in self.folds for case in self.splits.folds[int(fold)].validation}
        return {case.id: case for case in self.dataset.cases if case.id in held_out}

    def held_out(self, fold: str) -> tuple[str, ...]:
        """Cases that a fold is asked about: those that it holds out and no fold before it does."""
        before = {case for other in self.folds[: self.folds.index(fold)] for case in self.splits.folds[int(other)].validation}
        return tuple(case for case in self.splits.folds[int(fold)].validation if case not in before)

    @property
    def annotated(self) -> dict[str, tuple[str, ...]]:
        """Names of the annotated classes of cases that do not have all."""
        return {name: case.annotated for name, case in self.cases.items() if case.annotated is not None}

    def predictions(self, configurations: Sequence[str]) -> dict[str, Path]:
        """Case → label map that a configuration, or an ensemble, predicted for it while it was held out."""
        ending = label_ending(self.plan.file_ending)
        found: dict[str, Path] = {}
        for fold in self.folds:
            alone = self.layout.fold(configurations[0], fold).validation
            folder = alone if len(configurations) == 1 else self.layout.ensemble(JOIN.join(configurations))
            found |= {case: folder / f"{case}{ending}" for case in self.held_out(fold)}
        return dict(sorted(found.items()))

    def previous(self, configuration: str) -> dict[str, Path]:
        """Case → label map that the stage before predicted for it while it was held out; empty where there is no such stage."""
        before = self.plan.configurations[configuration].previous_stage
        return {} if before is None else self.predictions((before,))

    def scored(self, configurations: Sequence[str], runtime: Runtime) -> Scores:
        """Scores of the label maps as they are now, against the truths as they are now.

        Raises:
            DatasetError: Label maps are missing, damaged, on another grid, or hold values that the dataset does not name.
        """
        files = true_files(self, self.predictions(configurations))
        return evaluate_cases(files, self.plan.labels, runtime, {"weights": self.weights(configurations)}, self.annotated)

    def state(self, configurations: Sequence[str]) -> str:
        """Digest of all that a selection among them depends on: weights, their label maps, the truths, and which classes are annotated."""
        files = [path for name in configurations for path in self.predictions((name,)).values()]
        files += [case.label for case in self.cases.values()]
        contents = [[path.name, file_digest(path)] if path.exists() else [path.name] for path in files]
        return digest_of([self.weights(configurations), contents, sorted(self.annotated.items()), list(self.cases)])

    def weights(self, configurations: Sequence[str]) -> str:
        """Digest of the weights that the predictions are of, of cascades also those of the stage before."""
        names = _with_before(self.plan, configurations)
        return digest_of([weights_identity(self.layout.fold(name, fold).weights) for name in names for fold in self.folds])

    def trained(self, configurations: Sequence[str]) -> dict[str, str]:
        """The weights themselves, each by its configuration and fold."""
        return {
            f"{name}/fold_{fold}": weights_identity(self.layout.fold(name, fold).weights) for name in configurations for fold in self.folds
        }


def score_ensembles(validation: CrossValidation, groups: Sequence[Sequence[str]], runtime: Runtime) -> dict[str, Scores]:
    """Predicts the held-out cases with every group of configurations, and scores them; what is there already is kept.

    The probabilities of each configuration lie beside the label maps for a few cases at a time.

    Raises:
        DatasetError: Cases could not be predicted.
    """
    shutil.rmtree(validation.layout.ensemble(SCRATCH), ignore_errors=True)  # of a run that was killed
    for fold in validation.folds:
        _predict_fold(validation, groups, fold, runtime)
    found: dict[str, Scores] = {}
    for group in groups:
        name = JOIN.join(group)
        found[name] = validation.scored(group, runtime)
        found[name].save(validation.layout.ensemble(name) / "scores.json")
    return found


def _predict_fold(validation: CrossValidation, groups: Sequence[Sequence[str]], fold: str, runtime: Runtime) -> None:
    """Every group's label maps of one fold's held-out cases."""
    layout, members = validation.layout, list(dict.fromkeys(name for group in groups for name in group))
    held_out = sorted(validation.held_out(fold))
    outputs = {JOIN.join(group): validation.predictions(group) for group in groups}
    for group in groups:
        files = {case: outputs[JOIN.join(group)][case] for case in held_out}
        folder = layout.ensemble(JOIN.join(group))
        remove_leftovers(folder)
        identity = digest_of([weights_identity(layout.fold(name, fold).weights) for name in _with_before(validation.plan, group)])
        images = {case: images_digest(validation.cases[case]) for case in held_out}
        _keep_own(identity, images, files, folder / f".weights_{fold}")
    todo = [case for case in held_out if not all(is_kept(files[case]) for files in outputs.values())]
    if not todo:
        return
    models = {name: load_folds(validation.plan, [TrainedFold(name, fold, layout.fold(name, fold).weights)], runtime) for name in members}
    scratch = layout.ensemble(SCRATCH)
    try:
        for first in range(0, len(todo), AT_A_TIME):
            now = todo[first : first + AT_A_TIME]
            for name, model in models.items():
                before = validation.previous(name)
                jobs = [_job(validation.cases[case], scratch / name, before.get(case)) for case in now]
                _raise(predict_cases(model, jobs, runtime).problems, len(jobs))
            for group in groups:
                for case in now:
                    _write(validation, group, case, scratch, outputs[JOIN.join(group)][case])
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _keep_own(identity: str, images: Mapping[str, str], predictions: Mapping[str, Path], record: Path) -> None:
    """Removes label maps of other weights or images, and notes in a file beside them whose those to come are. Raises ArtefactError.

    The file's first line tells the weights, the others a case each; where a case has none, as of older versions, its images are not known.
    """
    first, *rest = (record.read_text(encoding="utf-8") if record.exists() else "\n").split("\n")
    noted = {case: digest for digest, _, case in (line.partition(" ") for line in rest)}
    is_other = {case: first.strip() != identity or noted.get(case, images[case]) != images[case] for case in predictions}
    remove_predictions([path for case, path in predictions.items() if is_other[case]])
    write_text_atomic(record, "\n".join([identity, *(f"{digest} {case}" for case, digest in sorted(images.items()))]) + "\n")


def _with_before(plan: Plan, names: Sequence[str]) -> list[str]:
    """Configurations, and those that they are the second stage of."""
    before = (plan.configurations[name].previous_stage for name in names)
    return [*names, *(name for name in before if name is not None)]


def _job(case: Case, folder: Path, previous: Path | None) -> PredictionJob:
    return PredictionJob(case.id, case.images, folder / f"{case.id}.nii.gz", folder / f"{case.id}.npz", previous=previous)


def _write(validation: CrossValidation, group: Sequence[str], case: str, scratch: Path, output: Path) -> None:
    labels = average_labels([scratch / name / f"{case}.npz" for name in group], validation.plan.labels)
    image = validation.cases[case].images[0]
    write_labels(output, labels, read_size(image)[1], like=image)


def _raise(problems: Sequence[Problem], cases: int) -> None:
    if problems:
        raise DatasetError(f"{len(problems)} of {cases} held-out cases could not be predicted", problems=list(problems))


def true_files(validation: CrossValidation, predictions: Mapping[str, Path]) -> dict[str, tuple[Path, Path]]:
    """Case → (predicted, true label map)."""
    return {case: (path, validation.cases[case].label) for case, path in predictions.items()}
