"""``autounet plan``: what is this data, and which network, patch and normalisation does it get, and why."""

from typing import Any

from autounet.cli.session import Session, alone, recorded
from autounet.cli.stages import Wanted, fresh_fingerprint, fresh_plan, load_dataset
from autounet.fingerprint import Fingerprint
from autounet.plan import Configuration, Plan


def run_plan(session: Session, dataset: str, wanted: Wanted, overwrite: bool) -> None:
    """Extracts the fingerprint, plans, and shows both."""
    wanted.check()
    spec, layout = load_dataset(session, dataset)
    with recorded(session, layout), alone(session, layout):
        fingerprint = fresh_fingerprint(session, spec, layout)
        plan, is_new = fresh_plan(session, spec, layout, wanted, overwrite)
    _show_data(session, fingerprint)
    _show_plan(session, plan)
    session.screen.result(f"{'Written to' if is_new else 'Up to date:'} {layout.plan}")
    session.screen.json(as_public_json(plan))


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
    for name in fingerprint.labels.names:
        voxels = [case.class_voxels.get(name, 0) for case in cases]
        present = [count for count in voxels if count]
        median = sorted(present)[len(present) // 2] if present else 0
        rows.append((f"class {name}", f"in {len(present)} of {len(cases)} cases, median {median} voxels where present"))
    session.screen.table(f"{fingerprint.dataset}: what the data is", ("property", "value"), rows)


def _range(rows: list[tuple[int, ...]] | list[tuple[float, ...]]) -> str:
    ordered = [sorted(column) for column in zip(*rows, strict=True)]
    middle = " × ".join(f"{column[len(column) // 2]:.4g}" for column in ordered)
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
