"""Plan: every decision about preprocessing, network and batch, each with its reason. Written by the planner; no logic.

Per-axis values are in *transposed* order (the network's own axis order), as in nnU-Net's plans.
"""

from typing import ClassVar, Literal

from autounet.artefact import Artefact, Frozen, digest_of
from autounet.geometry import Triple
from autounet.labels import LabelSpec


class Decision(Frozen):
    """One decision, as shown to the user."""

    name: str
    value: str
    reason: str
    chosen_by: Literal["rule", "you"] = "rule"


class Normalization(Frozen):
    """How one channel is normalised.

    ``zscore``: subtract the case's mean, divide by its standard deviation (inside the nonzero mask if ``use_mask``).
    ``ct``: clip to lower..upper, subtract mean, divide by std, all of the dataset's foreground.
    ``rescale``: the case's minimum..maximum to 0..1. ``rgb``: 0..255 to 0..1. ``none``: as it is.
    """

    scheme: Literal["zscore", "ct", "rescale", "rgb", "none"]
    use_mask: bool = False
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class OptimizerSpec(Frozen):
    """SGD with Nesterov momentum; the defaults are nnU-Net's, for long trainings."""

    learning_rate: float = 1e-2
    """At the start; it decays to 0."""
    momentum: float = 0.99


NNUNET_OPTIMIZER = OptimizerSpec()


class NetworkSpec(Frozen):
    """A U-Net in numbers: enough to build it, and to count its activations and parameters without building it.

    Stage 0 has full resolution; ``strides[i]`` leads into stage i. Per-axis entries have ``ndim`` values.
    """

    kind: Literal["plain", "residual"]
    """``plain``: ``blocks_encoder`` counts convolutions per stage; ``residual``: residual blocks per stage."""
    ndim: Literal[2, 3]
    in_channels: int
    outputs: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    blocks_encoder: tuple[int, ...]
    blocks_decoder: tuple[int, ...]
    """Convolutions per decoder stage, in the order of nnU-Net's plans (one fewer than stages)."""


class Configuration(Frozen):
    """One way to look at the data: its grid, its patches and its network."""

    name: str
    spacing_mm: tuple[float, ...]
    """Target spacing; one value per network axis (two for ``2d``, whose slices keep their distance)."""
    median_shape: tuple[float, ...]
    """Median size of the prepared cases."""
    patch_size: tuple[int, ...]
    batch_size: int
    batch_dice: bool
    normalization: tuple[Normalization, ...]
    """One per channel."""
    network: NetworkSpec
    decisions: tuple[Decision, ...]

    @property
    def ndim(self) -> int:
        """Spatial dimensions of the network."""
        return self.network.ndim


class Plan(Artefact):
    """All decisions for a dataset."""

    KIND: ClassVar[str] = "plan"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    dataset: str
    preset: str
    gpu_memory_gb: float
    epochs: int
    """Training length unless another is asked for."""
    optimizer: OptimizerSpec = NNUNET_OPTIMIZER
    ndim: int
    channels: tuple[str, ...]
    labels: LabelSpec
    file_ending: str
    """Ending of the training images, the default for predictions."""
    transpose: Triple
    """Array axes z, y, x in the network's order."""
    configurations: dict[str, Configuration]
    decisions: tuple[Decision, ...]
    """Decisions that hold for every configuration."""

    def recipe(self, configuration: str) -> str:
        """Digest of all that a trained model of this configuration depends on; reasons and other configurations are not."""
        chosen = self.configurations[configuration].model_dump(mode="json", exclude={"decisions"})
        shared = self.model_dump(mode="json", include={"channels", "labels", "transpose", "ndim"})
        return digest_of([shared, chosen])
