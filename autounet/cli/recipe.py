"""What the command line says about how networks are trained, in place of the plan."""

from dataclasses import dataclass
from typing import get_args

from autounet.errors import UsageError
from autounet.labels import LabelSpec
from autounet.plan import LossSpec, Plan
from autounet.preset import NNUNET_OPTIMIZER, AugmentationKind

RECIPES = ("default", "nnunet")


@dataclass(frozen=True, slots=True)
class RecipeChoices:
    """The flags as they were typed; None leaves it to the plan."""

    recipe: str = "default"
    """``default``: the plan's. ``nnunet``: nnU-Net's optimizer, learning rate, augmentation and loss, whatever the plan says."""
    augmentation: str | None = None
    class_weights: str | None = None

    def check(self) -> None:
        """Raises UsageError, before any work, for what makes no sense whatever the data are."""
        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe}: no such recipe", expected=" or ".join(RECIPES))
        if self.augmentation not in (None, "default", *get_args(AugmentationKind)):
            raise UsageError(
                f"--augmentation {self.augmentation}: no such kind", expected=", ".join(("default", *get_args(AugmentationKind)))
            )
        if self.class_weights is not None:
            _pairs(self.class_weights)

    def applied_to(self, plan: Plan) -> Plan:
        """The plan with these choices; on disk it stays as it is. Raises UsageError for classes that it does not have."""
        changed: dict[str, object] = {}
        loss = plan.loss
        if self.recipe == "nnunet":
            loss = LossSpec()
            changed |= {"optimizer": NNUNET_OPTIMIZER, "augmentation": "nnunet"}
        if self.augmentation not in (None, "default"):
            changed["augmentation"] = self.augmentation
        if self.class_weights is not None:
            loss = loss.model_copy(update={"class_weights": _weights(self.class_weights, plan.labels, loss.class_weights)})
        return plan.model_copy(update={**changed, "loss": loss})


def _pairs(text: str) -> dict[str, float]:
    """``liver=1,tumour=5`` → weights by name."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not equals or not 0 <= weight <= 1e6:
            raise UsageError(
                f"--class-weights {text}: cannot be read",
                found=part,
                expected="class=weight, as in liver=1,tumour=5, weights from 0 to a million",
            )
        if name.strip() in found:
            raise UsageError(f"--class-weights {text}: {name.strip()} is there twice")
        found[name.strip()] = weight
    return found


def _weights(text: str, labels: LabelSpec, before: tuple[float, ...]) -> tuple[float, ...]:
    """One weight for each of the network's outputs; those that are not named keep theirs."""
    names = labels.output_names
    weights = dict(zip(names, before or (1.0,) * len(names), strict=True))
    for name, weight in _pairs(text).items():
        if name not in weights:
            raise UsageError(f"--class-weights {text}: no class {name!r}", expected=", ".join(names))
        weights[name] = weight
    if not any(weights.values()):
        raise UsageError(f"--class-weights {text}: all weights are 0", expected="one above 0")
    return tuple(weights.values())
