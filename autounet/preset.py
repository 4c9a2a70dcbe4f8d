"""Preset: what the planner aims at, as data. The planner holds the built-in ones; a user's is a small JSON file of the same form."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from autounet.artefact import Frozen

Positive = Annotated[int, Field(gt=0, le=10**6)]
Large = Annotated[int, Field(gt=0, le=10**15)]
Few = Annotated[int, Field(gt=0, le=100)]
MOST_GB = 1e6
Gigabytes = Annotated[float, Field(gt=0, le=MOST_GB)]

NetworkKind = Literal["plain", "residual", "unet2015"]
"""``plain``: convolution, instance norm, leaky ReLU (nnU-Net's default). ``residual``: a residual encoder (nnU-Net's ResEnc).
``unet2015``: the U-Net of Ronneberger et al. 2015, with unpadded convolutions and no norm; it sees planar images or slices."""

AugmentationKind = Literal["nnunet", "strong", "light", "none", "unet2015"]
"""``nnunet``: its default list. ``strong``: oftener and further, after its variant "DA5". ``light``: mirroring, mild changes of intensity,
seldom a turn. ``none``: patches as they are. ``unet2015``: elastic deformation on a 3×3 grid, rotation, mirroring and grey values.
The numbers are in ``training/augmentation/policy.py``."""


class OptimizerSpec(Frozen):
    """How weights are changed; the defaults are nnU-Net's, for long trainings."""

    kind: Literal["sgd", "adamw"] = "sgd"
    """``sgd``: with Nesterov momentum."""
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 1e-2
    """At the start; it decays to 0."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """``sgd`` only."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 3e-5
    warm_up: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training in which the learning rate rises from 0."""
    every_step: bool = False
    """The learning rate changes with every step; else it stays the same for an epoch."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of a running mean of the weights, which is what is validated and kept; 0 for the weights themselves."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.warm_up and not self.every_step:
            raise ValueError("'warm_up' needs 'every_step': the first epoch would be trained at a rate of 0")
        return self


NNUNET_OPTIMIZER = OptimizerSpec()


class Target(Frozen):
    """How large networks of one dimensionality may become."""

    features: Large
    """Activations (see ``networks.cost``) of one sample that are known to fit when training with ``batch`` samples."""
    batch: Positive
    """The batch size for which ``features`` was measured."""
    patch_batch: Positive
    """The patch is chosen as large as it can be at this batch size."""
    max_features: Positive
    """Feature maps double from stage to stage up to this number."""
    max_batch: Positive | None = None
    """Upper limit of the batch size; None for none."""


class Unpadded(Frozen):
    """Size of a network without padding, whose output is smaller than its input."""

    edge: Annotated[int, Field(gt=0, le=10**5)]
    """Longest edge of the input, in pixels."""
    stages: Annotated[int, Field(gt=1, le=12)]
    """Resolutions, the finest included."""


class Preset(Frozen):
    """The numbers behind a plan."""

    name: Annotated[str, Field(min_length=1)]
    summary: str
    kind: NetworkKind
    gpu_memory_gb: Gigabytes
    """Memory for which the targets were measured, and the default memory to plan for."""
    features: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Feature maps per stage, finest first; beyond the last number they double, up to the target's limit."""
    blocks_encoder: Annotated[tuple[Few, ...], Field(min_length=1)]
    """Convolutions (plain) or residual blocks (residual) per stage; the last number holds for all further stages."""
    blocks_decoder: Annotated[tuple[Few, ...], Field(min_length=1)]
    """Convolutions per decoder stage, coarsest first; the last number holds for all further stages."""
    max_dataset_fraction: Annotated[float, Field(gt=0, le=1e6)]
    """A batch may hold at most this part of the dataset's voxels (against overfitting)."""
    planar: Target
    """Of networks that see slices."""
    volumetric: Target | None
    """Of networks that see volumes; None for none."""
    epochs: Positive
    """Training length unless another is asked for."""
    optimizer: OptimizerSpec = NNUNET_OPTIMIZER
    augmentation: AugmentationKind = "nnunet"
    loss: Literal["dice_ce", "border_ce"] = "dice_ce"
    """``dice_ce``: cross-entropy plus soft Dice at every resolution. ``border_ce``: cross-entropy weighted by class and, between
    neighbouring objects, by nearness to both."""
    unpadded: Unpadded | None = None
    """For ``unet2015``, and for it alone."""
    min_batch: Positive = 2
    min_edge: Positive = 4
    """Smallest size of a feature map along an axis that was halved."""
    lowres_below: Annotated[float, Field(ge=0, le=1)] = 0.25
    """A patch that covers less than this part of a typical image calls for a low-resolution stage; 0 for never."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind == "unet2015") != (self.unpadded is not None):
            raise ValueError("'unpadded' belongs to the kind unet2015, and to it alone")
        if self.kind == "unet2015" and self.volumetric is not None:
            raise ValueError("the kind unet2015 sees slices only: 'volumetric' must be null")
        for name, target in (("planar", self.planar), ("volumetric", self.volumetric)):
            if target is not None and target.max_batch is not None and target.max_batch < self.min_batch:
                raise ValueError(f"'max_batch' of {name} is below 'min_batch'")
            if target is not None and target.patch_batch < self.min_batch:
                raise ValueError(f"'patch_batch' of {name} is below 'min_batch': the patch must make room for the smallest batch")
        return self
