"""``autounet plan``: what is this data, and which network, patch and normalisation does it get, and why."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from autounet.cli.folding import describe_splits, use_splits
from autounet.cli.session import Session, alone, recorded
from autounet.cli.stages import fresh_fingerprint, fresh_plan, load_dataset, plan_changes, plan_for, some
from autounet.cli.wanted import Wanted
from autounet.dataset_json import channels_and_labels, load_description
from autounet.errors import ArtefactError, UsageError
from autounet.fingerprint import Fingerprint
from autounet.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autounet.interop.nnunet_plans import NnunetPlans, nnunet_plans
from autounet.layout import RunLayout
from autounet.plan import Configuration, Plan
from autounet.planners.compare import Change, compare_plans, compare_with_nnunet
from autounet.text_files import read_text

MOST_CLASSES = 60
"""So many classes have a row of their own."""

USUAL_ENDING = ".nii.gz"
"""Of predictions, where no dataset.json names another."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to plan for: a dataset, or a fingerprint alone."""

    dataset: str | None
    fingerprint: Path | None = None
    dataset_json: Path | None = None
    idle: tuple[str, ...] = ()
    """Flags that were given and mean nothing for a fingerprint alone."""

    def check(self) -> None:
        """Raises UsageError unless exactly one of the two is named, or when a flag would be passed over."""
        if (self.dataset is None) == (self.fingerprint is None):
            what = "a dataset (-d) and a fingerprint (--fingerprint)" if self.dataset is not None else "nothing to plan for"
            raise UsageError(what, remedy="give -d DATASET, or --fingerprint FILE --dataset-json FILE")
        if self.fingerprint is not None and self.idle:
            raise UsageError(f"{self.idle[0]} with --fingerprint: nothing is read or written but the fingerprint", remedy="leave it out")
        if self.fingerprint is None and self.dataset_json is not None:
            raise UsageError("--dataset-json without --fingerprint", remedy="name the fingerprint, or the dataset with -d")


def run_plan(session: Session, source: Source, wanted: Wanted, overwrite: bool, compare: Path | None, splits: Path | None = None) -> None:
    """Extracts the fingerprint or reads one, plans, and shows both.

    ``compare`` names an older plan to show the differences from, ``splits`` a file of folds that are to be used.
    """
    source.check()
    wanted.check()
    old = None if compare is None else read_older(compare)
    if source.fingerprint is not None:
        fingerprint, ending = read_fingerprint(source.fingerprint, source.dataset_json)
        request = wanted.request(fingerprint, None)
        plan = plan_for(fingerprint, request, ending)
        written = "Not written: planned from a fingerprint alone"
    else:
        assert source.dataset is not None  # else the check above has failed
        spec, layout = load_dataset(session, source.dataset)
        with recorded(session, layout), alone(session, layout):
            fingerprint = fresh_fingerprint(session, spec, layout)
            folds = None if splits is None else use_splits(session, spec, layout, splits, overwrite)
            plan, is_new = fresh_plan(session, spec, layout, wanted, overwrite, renew=overwrite)
            draw_networks(plan, layout)
            if plan.made_from.get("fingerprint") != fingerprint.digest():
                today = plan_changes(plan, plan_for(fingerprint, plan.request, spec.file_ending))
                session.screen.say(f"made anew for these cases, with --overwrite, it would say: {today}")
        written = f"{'Written to' if is_new else 'Up to date:'} {layout.plan}; drawings of the networks beside it"
        written += "" if folds is None else f"\n{describe_splits(folds)}: {layout.splits}"
    changes = None
    if old is not None:
        changes = compare_plans(old, plan) if isinstance(old, Plan) else compare_with_nnunet(old, plan)
    _show_data(session, fingerprint)
    _show_plan(session, plan)
    if changes is not None:
        _show_changes(session, str(compare), changes)
    session.screen.result(written)
    session.screen.json(as_public_json(plan) | ({} if changes is None else {"changes": [_change_json(change) for change in changes]}))


def read_fingerprint(path: Path, dataset_json: Path | None) -> tuple[Fingerprint, str]:
    """A fingerprint on disk, ours or nnU-Net's, and the ending of the dataset's files.

    Raises:
        ArtefactError: The file is missing or malformed, or does not belong to the dataset.json.
        DatasetError: The dataset.json is missing or malformed.
        UsageError: nnU-Net's fingerprint needs a dataset.json and none is named.
    """
    try:
        text = read_text(path, "utf-8-sig")
        raw = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise ArtefactError(f"{path}: cannot be read as a fingerprint", found=found, remedy="check the path") from None
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: is not valid JSON", found=error, remedy="extract the fingerprint again") from None
    description = None if dataset_json is None else load_description(dataset_json)
    ending = USUAL_ENDING if description is None else description.get("file_ending", USUAL_ENDING)
    if not isinstance(raw, dict):
        raise ArtefactError(f"{path}: is not a fingerprint", found=f"a JSON {type(raw).__name__}", expected="a JSON object")
    if "kind" in raw:
        ours = Fingerprint.from_json(text, str(path))
        if description is not None and (ours.channels, ours.labels) != channels_and_labels(description, dataset_json or path):
            raise ArtefactError(
                f"{path}: is not of the dataset of {dataset_json}", found="other channels or labels", remedy="leave one out"
            )
        return ours, ending if isinstance(ending, str) else USUAL_ENDING
    if dataset_json is None or description is None:
        raise UsageError(f"--fingerprint {path}: is nnU-Net's, which says nothing of labels", remedy="add --dataset-json dataset.json")
    named = description.get("name")
    name = named if isinstance(named, str) and named else path.resolve().parent.name
    return fingerprint_from_nnunet(raw, description, name, dataset_json), ending if isinstance(ending, str) else USUAL_ENDING


def read_older(path: Path) -> Plan | NnunetPlans:
    """A plan to compare with: ours, or nnU-Net's. Raises ArtefactError."""
    try:
        raw = json.loads(read_text(path, "utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        found = error.strerror if isinstance(error, OSError) else error
        raise ArtefactError(f"--compare {path}: cannot be read as a plan", found=found, remedy="name a plan.json") from None
    if isinstance(raw, dict) and "plans_name" in raw:
        return nnunet_plans(raw, str(path))
    try:
        return Plan.load(path)
    except ArtefactError as error:
        raise ArtefactError(error.what, found=error.found, expected=error.expected, remedy="name another plan") from None


def draw_networks(plan: Plan, layout: RunLayout) -> None:
    """Draws the network of every configuration into the run folder, unless that is done: an older plan's are gone with it."""
    from autounet.report.network import network_figure  # matplotlib is slow to import

    for name, configuration in plan.configurations.items():
        paths = [layout.network_drawing(name, ending) for ending in (".svg", ".png")]
        if not all(path.exists() for path in paths):
            network_figure(configuration, paths[0], f"{plan.dataset}, {name} (preset {plan.preset})")


def as_public_json(plan: Plan) -> dict[str, Any]:
    """The plan with nnU-Net's names, for scripts that compare planners; per-axis values are in transposed order."""
    return {
        "dataset": plan.dataset,
        "preset": plan.preset,
        "transpose_forward": list(plan.transpose),
        "configurations": {name: _configuration_json(entry) for name, entry in plan.configurations.items()},
    }


def _configuration_json(entry: Configuration) -> dict[str, Any]:
    network = entry.network
    return {
        "patch_size": list(entry.patch_size),
        "batch_size": entry.batch_size,
        "spacing": list(entry.spacing_mm),
        "median_shape": list(entry.median_shape),
        "batch_dice": entry.batch_dice,
        "mirror_axes": list(entry.mirror_axes),
        **({} if entry.previous_stage is None else {"previous_stage": entry.previous_stage}),
        "normalization": [scheme.scheme for scheme in entry.normalization],
        "use_mask_for_norm": [scheme.use_mask for scheme in entry.normalization],
        "architecture": {
            "kind": network.kind,
            "features": list(network.features),
            "strides": [list(stride) for stride in network.strides],
            "kernel_sizes": [list(kernel) for kernel in network.kernel_sizes],
            "blocks_encoder": list(network.blocks_encoder),
            "blocks_decoder": list(network.blocks_decoder),
        },
    }


def _change_json(change: Change) -> dict[str, str]:
    names = {"configuration": change.where, "decision": change.name, "before": change.before, "after": change.after}
    return names | {"reason": change.reason}


def _show_changes(session: Session, old: str, changes: tuple[Change, ...]) -> None:
    if not changes:
        session.screen.result(f"Nothing is decided differently from {old}")
        return
    rows = [(f"{change.where} {change.name}".strip(), change.before, change.after, change.reason) for change in changes]
    session.screen.table(f"What differs from {old}", ("decision", "there", "here", "why"), rows)


def _show_data(session: Session, fingerprint: Fingerprint) -> None:
    cases = fingerprint.cases
    axes = "y × x" if fingerprint.ndim == 2 else "z × y × x"
    first = 3 - fingerprint.ndim
    rows = [
        ("cases", str(len(cases))),
        ("channels", ", ".join(fingerprint.channels)),
        (f"size, {axes}", _range([case.shape_zyx[first:] for case in cases])),
        (f"spacing, {axes}" + ("" if fingerprint.ndim == 2 else " (mm)"), _range([case.spacing_mm_zyx[first:] for case in cases])),
    ]
    names = [name for name in fingerprint.labels.names if any(name in case.class_voxels for case in cases)]
    if not names:  # nnU-Net's fingerprint does not count them
        rows.append(("classes", some(fingerprint.labels.names, MOST_CLASSES)))
    for name in names[:MOST_CLASSES]:
        voxels = [case.class_voxels[name] for case in cases if name in case.class_voxels]
        present = [number for number in voxels if number]
        middle = median(present) if present else 0
        cases_shown = f"{len(voxels)} cases" if len(voxels) == len(cases) else f"the {len(voxels)} cases where it is annotated"
        rows.append((f"class {name}", f"in {len(present)} of {cases_shown}, median {middle:.0f} voxels where present"))
    if len(names) > MOST_CLASSES:
        rows.append(("…", f"and {len(names) - MOST_CLASSES} more classes"))
    session.screen.table(f"{fingerprint.dataset}: what the data is", ("property", "value"), rows)


def _range(rows: list[tuple[int, ...]] | list[tuple[float, ...]]) -> str:
    ordered = [sorted(column) for column in zip(*rows, strict=True)]
    middle = " × ".join(f"{median(column):.4g}" for column in ordered)
    if all(column[0] == column[-1] for column in ordered):
        return f"{middle} in every case"
    low, high = (" × ".join(f"{column[end]:.4g}" for column in ordered) for end in (0, -1))
    return f"median {middle} (from {low} to {high})"


def _show_plan(session: Session, plan: Plan) -> None:
    groups = [(f"Plan for every configuration (preset {plan.preset})", plan.decisions)]
    groups += [(f"Configuration {name}", entry.decisions) for name, entry in plan.configurations.items()]
    for title, decisions in groups:
        rows = [(entry.name, entry.value, entry.reason + (" (chosen by you)" if entry.chosen_by == "you" else "")) for entry in decisions]
        session.screen.table(title, ("decision", "value", "reason"), rows)
