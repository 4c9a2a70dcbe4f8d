"""What a training run is given."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from autounet.labels import LabelSpec
from autounet.layout import FoldLayout
from autounet.plan import Configuration, LossSpec
from autounet.preset import NNUNET_OPTIMIZER, AugmentationKind, OptimizerSpec
from autounet.training.history import EpochRecord
from autounet.training.loader import BatchLoader
from autounet.training.schedule import Length

DICE_CE = LossSpec()


def no_wish() -> str | None:
    """Nobody wants training to stop."""
    return None


@dataclass(frozen=True, slots=True)
class FoldJob:
    """What to train."""

    configuration: Configuration
    labels: LabelSpec
    train: BatchLoader
    validation: BatchLoader | None
    layout: FoldLayout
    about: dict[str, str]
    """Written beside the weights: plan digest, configuration, fold."""
    length: Length
    reserve: Callable[[float], float]
    """Seconds of one forward pass of one patch → seconds to keep for validating the held-out cases at the end."""
    on_epoch: Callable[[list[EpochRecord], float], None]
    """Called after every epoch with the history and the seconds left."""
    optimizer: OptimizerSpec = NNUNET_OPTIMIZER
    loss: LossSpec = DICE_CE
    augmentation: AugmentationKind = "nnunet"
    stop: Callable[[], str | None] = no_wish
    """Asked after every step: why training should be put down now, or None."""
    weights: dict[str, Tensor] | None = None
    """To begin with, in place of fresh ones."""
