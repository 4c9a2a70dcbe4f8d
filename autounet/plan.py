"""Plan: every decision about preprocessing, network and batch, each with its reason. Written by the planner; no logic.

Per-axis values are in *transposed* order (the network's own axis order), as in nnU-Net's plans.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autounet.artefact import Artefact, Frozen, digest_of
from autounet.geometry import LARGEST_MM, SMALLEST_MM, Triple
from autounet.labels import LabelSpec
from autounet.preset import AugmentationKind, Gigabytes, NetworkKind, OptimizerSpec, Preset


class Decision(Frozen):
    """One decision, as shown to the user."""

    name: str
    value: str
    reason: str
    chosen_by: Literal["rule", "you"] = "rule"


Scheme = Literal["zscore", "ct", "rescale", "rgb", "none"]


class Normalization(Frozen):
    """How one channel is normalised.

    ``zscore``: subtract the case's mean, divide by its standard deviation (inside the nonzero mask if ``use_mask``).
    ``ct``: clip to lower..upper, subtract mean, divide by std, all of the dataset's foreground.
    ``rescale``: the case's minimum..maximum to 0..1. ``rgb``: 0..255 to 0..1. ``none``: as it is.
    """

    scheme: Scheme
    use_mask: bool = False
    lower: float = 0.0
    upper: float = 0.0
    mean: float = 0.0
    std: float = 1.0


class LossSpec(Frozen):
    """What training minimises."""

    kind: Literal["dice_ce", "border_ce"] = "dice_ce"
    """See ``Preset.loss``."""
    class_weights: tuple[float, ...] = ()
    """Weight of each of the network's outputs, background first where there is one; empty for 1 each."""
    unlabelled: Annotated[float, Field(ge=0, le=1)] = 0.0
    """``dice_ce``: what a voxel with the ignore label weighs as background, beside 1 for an annotated one; 0 leaves it out (nnU-Net)."""
    objects: tuple[int, ...] = ()
    """``border_ce``: label indices whose connected components are the objects that must not run into each other (0: background)."""
    border_weight: float = 10.0
    """``border_ce``: weight added where two objects touch (w0 of Ronneberger et al. 2015)."""
    border_sigma_px: float = 5.0
    """``border_ce``: how fast that weight falls with the distance to both objects, in pixels of the network's grid."""


class NetworkSpec(Frozen):
    """A U-Net in numbers: enough to build it, and to count its activations and parameters without building it.

    Stage 0 has full resolution; ``strides[i]`` leads into stage i. Per-axis entries have ``ndim`` values.
    """

    kind: NetworkKind
    """``blocks_encoder`` counts residual blocks per stage where this is ``residual``, else convolutions."""
    ndim: Literal[2, 3]
    in_channels: int
    outputs: int
    features: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    blocks_encoder: tuple[int, ...]
    blocks_decoder: tuple[int, ...]
    """Convolutions per decoder stage, in the order of nnU-Net's plans (one fewer than stages)."""


ConfigurationName = Annotated[str, Field(pattern=r"^\w[\w.+-]{0,99}$")]
"""Folders are named so: it must not lead anywhere."""


class Configuration(Frozen):
    """One way to look at the data: its grid, its patches and its network."""

    name: ConfigurationName
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
    mirror_axes: tuple[int, ...]
    """Network axes along which training and prediction may mirror."""
    previous_stage: ConfigurationName | None = None
    """Configuration whose predictions are further inputs, one channel per foreground label: cascades only."""
    decisions: tuple[Decision, ...]

    @property
    def ndim(self) -> int:
        """Spatial dimensions of the network."""
        return self.network.ndim


NormalizationChoice = Literal["zscore", "zscore+mask", "ct", "rescale", "rgb", "none"]
"""Schemes that can be asked for; with a mask, only the nonzero region is looked at and changed."""


Count = Annotated[int, Field(gt=0, lt=2**31)]
Millimetres = Annotated[float, Field(ge=SMALLEST_MM, le=LARGEST_MM)]


class Overrides(Frozen):
    """What the user decided instead of the rules; None and empty leave it to them."""

    spacing_mm_zyx: tuple[Millimetres, Millimetres, Millimetres] | None = None
    """Target spacing, axes as read; of planar images the first is kept as it is."""
    patch_size: dict[str, tuple[Count, ...]] = Field(default_factory=dict)
    """By configuration, in the network's axis order."""
    batch_size: dict[str, Count] = Field(default_factory=dict)
    """By configuration."""
    normalization: tuple[NormalizationChoice | None, ...] = ()
    """One per channel, None where the rules decide; empty for none."""
    mirror_axes_zyx: tuple[Literal[0, 1, 2], ...] | None = None
    """Array axes as read (0 z, 1 y, 2 x); empty for no mirroring."""
    features: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Feature maps per stage; beyond the last number they go on doubling to the preset's limit, so that one number sets the base."""


class PlanRequest(Frozen):
    """What was asked for. The same fingerprint and request give the same plan."""

    preset: Preset
    """Whole, so that a plan can be made again wherever the preset came from."""
    gpu_memory_gb: Gigabytes | None = None
    """Memory to plan for; None for the preset's own."""
    overrides: Overrides = Overrides()


class Plan(Artefact):
    """All decisions for a dataset."""

    KIND: ClassVar[str] = "plan"
    VERSION: ClassVar[int] = 2

    kind: str = KIND
    schema_version: int = VERSION
    dataset: str
    request: PlanRequest
    epochs: int
    """Training length unless another is asked for."""
    optimizer: OptimizerSpec
    augmentation: AugmentationKind
    loss: LossSpec
    ndim: int
    channels: tuple[str, ...]
    labels: LabelSpec
    file_ending: str
    """Ending of the training images, the default for predictions."""
    transpose: Triple
    """Array axes z, y, x in the network's order."""
    configurations: dict[ConfigurationName, Configuration]
    decisions: tuple[Decision, ...]
    """Decisions that hold for every configuration."""

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return self.request.preset.name

    @property
    def gpu_memory_gb(self) -> float:
        """Memory that was planned for."""
        return self.request.preset.gpu_memory_gb if self.request.gpu_memory_gb is None else self.request.gpu_memory_gb

    def training_recipe(self) -> str:
        """Digest of what decides how a network is trained, beside the network itself: loss, augmentation, optimizer."""
        return digest_of(self.model_dump(mode="json", include={"optimizer", "augmentation", "loss"}))

    def recipe(self, configuration: str) -> str:
        """Digest of all that a trained model of this configuration depends on; reasons and other configurations are not."""
        chosen = self.configurations[configuration].model_dump(mode="json", exclude={"decisions"})
        shared = self.model_dump(mode="json", include={"channels", "labels", "transpose", "ndim"})
        return digest_of([shared, chosen])
