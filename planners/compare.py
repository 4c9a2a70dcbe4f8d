"""What two plans decide differently, and why the newer one does."""

from collections.abc import Sequence
from dataclasses import dataclass

from autounet.interop.nnunet_plans import NnunetConfiguration, NnunetPlans
from autounet.plan import Configuration, Decision, Plan
from autounet.planners import describe
from autounet.planners.words import mm, times

ABSENT = "–"
"""Stands for a decision that one of the plans does not have."""


@dataclass(frozen=True, slots=True)
class Change:
    """One decision that differs."""

    where: str
    """Configuration; empty for what holds for all of them."""
    name: str
    before: str
    after: str
    reason: str
    """The newer plan's; of a decision that it no longer has, the older one's."""

    def describe(self) -> str:
        """In one line."""
        return f"{f'{self.where}: ' if self.where else ''}{self.name} {self.before} → {self.after}"


def compare_plans(old: Plan, new: Plan) -> tuple[Change, ...]:
    """All decisions that differ, in the newer plan's order."""
    changes = [] if old.preset == new.preset else [Change("", "preset", old.preset, new.preset, "asked for")]
    changes += [
        Change("", name, before, after, "dataset.json says so now")
        for name, before, after in (
            ("channels", ", ".join(old.channels), ", ".join(new.channels)),
            ("labels", ", ".join(old.labels.names), ", ".join(new.labels.names)),
        )
        if getattr(old, name) != getattr(new, name)
    ]
    before, after = _decided(old), _decided(new)
    for key in [*after, *(key for key in before if key not in after)]:
        was, now = before.get(key), after.get(key)
        if was is not None and now is not None and was.value == now.value:
            continue
        which = now or was
        assert which is not None  # the key is in one of them
        reason = which.reason + (" (chosen by you)" if which.chosen_by == "you" else "")
        changes.append(Change(*key, was.value if was else ABSENT, now.value if now else ABSENT, reason))
    return tuple(changes)


def compare_with_nnunet(old: NnunetPlans, new: Plan) -> tuple[Change, ...]:
    """What a plan decides differently from nnU-Net's plans: configurations, grids, patches, batches and networks."""
    changes = []
    if old.transpose != new.transpose:
        before, after = (", ".join("zyx"[axis] for axis in order) for order in (old.transpose, new.transpose))
        changes.append(Change("", "axis order", before, after, _reason(new.decisions, "axis order")))
    for name in [*new.configurations, *(name for name in old.configurations if name not in new.configurations)]:
        was, now = old.configurations.get(name), new.configurations.get(name)
        if was is None or now is None:
            words = ("not planned", "planned")
            before, after = words if was is None else words[::-1]
            changes.append(Change(name, "configuration", before, after, _reason(new.decisions, "configurations")))
            continue
        masks = [entry.use_mask for entry in now.normalization]
        there = _facts(was, was.normalization, was.use_mask)
        here = _facts(now, [entry.scheme for entry in now.normalization], masks)
        for fact, value in here.items():
            if there[fact] != value:
                shared = new.decisions if fact in ("target spacing", "typical image", "normalisation") else ()
                changes.append(Change(name, fact, there[fact], value, _reason((*now.decisions, *shared), fact)))
    return tuple(changes)


def _facts(entry: Configuration | NnunetConfiguration, schemes: Sequence[str], masks: Sequence[bool]) -> dict[str, str]:
    network = entry.network
    return {
        "target spacing": mm(entry.spacing_mm),
        "typical image": f"{times(entry.median_shape)} voxels",
        "normalisation": ", ".join(f"{scheme}{'+mask' if mask else ''}" for scheme, mask in zip(schemes, masks, strict=True)),
        "patch size": times(entry.patch_size),
        "batch size": str(entry.batch_size),
        "halvings": describe.halvings(network),
        "kernels": describe.kernels(network),
        "features": describe.features(network),
        "blocks per stage": describe.blocks(network),
        "batch Dice": describe.yes_or_no(entry.batch_dice),
        "previous stage": entry.previous_stage or "none",
    }


def _reason(decisions: Sequence[Decision], name: str) -> str:
    found = next((entry for entry in decisions if entry.name.startswith(name)), None)
    return "" if found is None else found.reason + (" (chosen by you)" if found.chosen_by == "you" else "")


def _decided(plan: Plan) -> dict[tuple[str, str], Decision]:
    shared = {("", entry.name): entry for entry in plan.decisions}
    return shared | {(name, entry.name): entry for name, chosen in plan.configurations.items() for entry in chosen.decisions}
