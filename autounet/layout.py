"""Every path of a run folder, in one place."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunLayout:
    """Paths below ``<runs>/<dataset>/``. Nothing is created by asking for a path."""

    root: Path

    @property
    def fingerprint(self) -> Path:
        """What the data is."""
        return self.root / "fingerprint.json"

    @property
    def facts(self) -> Path:
        """What each case alone has told for the fingerprint."""
        return self.root / "fingerprint_cases.npz"

    @property
    def plan(self) -> Path:
        """Every decision, with its reason."""
        return self.root / "plan.json"

    def network_drawing(self, configuration: str, ending: str) -> Path:
        """Drawing of a configuration's network; ``ending`` is ``.svg`` or ``.png``."""
        return self.root / f"network_{configuration}{ending}"

    @property
    def health(self) -> Path:
        """What is likely to be wrong with the data."""
        return self.root / "health.json"

    @property
    def health_pictures(self) -> Path:
        """Folder of the pictures that show it."""
        return self.root / "health"

    @property
    def splits(self) -> Path:
        """Training and validation cases of each fold."""
        return self.root / "splits.json"

    @property
    def report(self) -> Path:
        """All of it as a page to read."""
        return self.root / "report.html"

    @property
    def selection(self) -> Path:
        """Which configuration or ensemble is the model, and its postprocessing."""
        return self.root / "selection.json"

    @property
    def selecting(self) -> Path:
        """Held by the command that selects."""
        return self.root / ".selecting"

    def ensemble(self, name: str) -> Path:
        """Folder of an ensemble's label maps of the held-out cases, with their ``scores.json``; ``name`` is such as ``2d+3d_fullres``."""
        return self.root / "ensembles" / name

    @property
    def manifest(self) -> Path:
        """Every command that wrote here."""
        return self.root / "manifest.json"

    @property
    def log(self) -> Path:
        """What the commands said, with times."""
        return self.root / "run.log"

    @property
    def lock(self) -> Path:
        """Held by the command that makes plan, splits and prepared cases."""
        return self.root / ".lock"

    def prepared(self, configuration: str) -> Path:
        """Folder of the prepared cases."""
        return self.root / "prepared" / configuration

    @property
    def models(self) -> Path:
        """Folder of all trained models."""
        return self.root / "models"

    def fold(self, configuration: str, fold: str) -> "FoldLayout":
        """Paths of one trained fold; ``fold`` is ``"0"``.. or ``"all"``."""
        return FoldLayout(self.models / configuration / f"fold_{fold}")


@dataclass(frozen=True, slots=True)
class FoldLayout:
    """Paths of one fold of one configuration."""

    root: Path

    @property
    def weights(self) -> Path:
        """Weights after the last epoch; there once training has ended."""
        return self.root / "weights.safetensors"

    @property
    def weights_best(self) -> Path:
        """Weights of the epoch with the best smoothed online Dice."""
        return self.root / "weights_best.safetensors"

    @property
    def resume(self) -> Path:
        """Everything needed to go on training."""
        return self.root / "resume.pt"

    @property
    def history(self) -> Path:
        """One JSON line per epoch."""
        return self.root / "history.jsonl"

    @property
    def progress(self) -> Path:
        """Training curves."""
        return self.root / "progress.png"

    @property
    def training(self) -> Path:
        """How this fold is trained: recipe, length, what it began with."""
        return self.root / "training.json"

    def training_cases(self) -> tuple[str, ...] | None:
        """The cases that ``training`` says this fold learns from; None where it does not say."""
        try:
            cases = json.loads(self.training.read_text(encoding="utf-8"))["cases"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return tuple(cases) if isinstance(cases, list) and all(isinstance(case, str) for case in cases) else None

    @property
    def stop(self) -> Path:
        """Whoever makes this file asks the training to stop, with all kept."""
        return self.root / "STOP"

    @property
    def lock(self) -> Path:
        """Held by the command that trains this fold."""
        return self.root / ".lock"

    @property
    def overlays(self) -> Path:
        """Held-out cases: image, truth, prediction, errors."""
        return self.root / "validation.png"

    @property
    def validation(self) -> Path:
        """Predictions of the held-out cases."""
        return self.root / "validation"

    @property
    def scores(self) -> Path:
        """Scores of the held-out cases."""
        return self.root / "scores.json"

    @property
    def confidence(self) -> Path:
        """The Dice that the probabilities of the held-out cases lead to expect."""
        return self.root / "confidence.json"
