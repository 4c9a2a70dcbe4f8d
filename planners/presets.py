"""Presets: what the planner aims at, as data. There is one planner; a preset only changes its numbers."""

from typing import Literal

from autounet.artefact import Frozen
from autounet.plan import NNUNET_OPTIMIZER, OptimizerSpec


class Target(Frozen):
    """How large networks of one dimensionality may become."""

    features: int
    """Activations (see ``networks.cost``) of one sample that are known to fit when training with ``batch`` samples."""
    batch: int
    """The batch size for which ``features`` was measured."""
    patch_batch: int
    """The patch is chosen as large as it can be at this batch size."""
    max_features: int
    """Feature maps per stage double from ``base_features`` up to this number."""
    max_batch: int | None = None
    """Upper limit of the batch size; None for none."""


class Preset(Frozen):
    """The numbers behind a plan."""

    name: str
    summary: str
    kind: Literal["plain", "residual"]
    gpu_memory_gb: float
    """Memory for which the targets were measured, and the default memory to plan for."""
    base_features: int
    """Feature maps at full resolution."""
    blocks_encoder: tuple[int, ...]
    """Convolutions (plain) or residual blocks (residual) per stage; the last number holds for all further stages."""
    blocks_decoder: tuple[int, ...]
    """Convolutions per decoder stage, coarsest first; the last number holds for all further stages."""
    max_dataset_fraction: float
    """A batch may hold at most this part of the dataset's voxels (against overfitting)."""
    planar: Target
    volumetric: Target
    epochs: int
    """Training length unless another is asked for."""
    optimizer: OptimizerSpec = NNUNET_OPTIMIZER
    min_batch: int = 2
    min_edge: int = 4
    """Smallest size of a feature map along an axis that was halved."""
    lowres_below: float = 0.25
    """A patch that covers less than this part of a typical image calls for a low-resolution stage."""


_RESENC_BLOCKS = (1, 3, 4, 6)

PRESETS: dict[str, Preset] = {
    # nnunetv2 2.8.1, experiment_planners/default_experiment_planner.py: measured there on GPUs of 8 GB.
    "nnunet": Preset(
        name="nnunet",
        summary="nnU-Net's default: plain convolutions, for a GPU of 8 GB",
        kind="plain",
        gpu_memory_gb=8.0,
        base_features=32,
        blocks_encoder=(2,),
        blocks_decoder=(2,),
        max_dataset_fraction=0.05,
        planar=Target(features=85_000_000, batch=12, patch_batch=2, max_features=512),
        volumetric=Target(features=560_000_000, batch=2, patch_batch=2, max_features=320),
        epochs=1000,
    ),
    # Half the features (a quarter of the work per voxel) and patches of about a quarter million voxels: 8×192×160 for cardiac MRI,
    # 256×256 for microscopy, which still show whole structures; two patches a step (more steps beat larger ones, docs/experiments.md).
    "small": Preset(
        name="small",
        summary="the same rules with half the features and small patches: for a CPU, or for a few minutes",
        kind="plain",
        gpu_memory_gb=1.0,
        base_features=16,
        blocks_encoder=(2,),
        blocks_decoder=(2,),
        max_dataset_fraction=0.05,
        planar=Target(features=11_000_000, batch=6, patch_batch=6, max_features=192, max_batch=32),
        volumetric=Target(features=40_000_000, batch=2, patch_batch=2, max_features=128, max_batch=2),
        epochs=50,
        # Momentum 0.99 gathers speed over hundreds of steps, which a short training does not have (docs/experiments.md).
        optimizer=OptimizerSpec(learning_rate=0.1, momentum=0.9),
    ),
    # nnunetv2 2.8.1, experiment_planners/residual_unets/residual_encoder_unet_planners.py. In 2D the patch must leave room for the
    # measured batch of 12 (the plain planner is content with 2), and a batch may hold the whole dataset.
    "resenc-m": Preset(
        name="resenc-m",
        summary="nnU-Net's residual encoder M: about 9 to 11 GB of GPU memory",
        kind="residual",
        gpu_memory_gb=8.0,
        base_features=32,
        blocks_encoder=_RESENC_BLOCKS,
        blocks_decoder=(1,),
        max_dataset_fraction=1.0,
        planar=Target(features=135_000_000, batch=12, patch_batch=12, max_features=512),
        volumetric=Target(features=680_000_000, batch=2, patch_batch=2, max_features=320),
        epochs=1000,
    ),
    "resenc-l": Preset(
        name="resenc-l",
        summary="nnU-Net's residual encoder L: 24 GB of GPU memory",
        kind="residual",
        gpu_memory_gb=24.0,
        base_features=32,
        blocks_encoder=_RESENC_BLOCKS,
        blocks_decoder=(1,),
        max_dataset_fraction=1.0,
        planar=Target(features=380_000_000, batch=12, patch_batch=12, max_features=512),
        volumetric=Target(features=2_100_000_000, batch=2, patch_batch=2, max_features=320),
        epochs=1000,
    ),
    "resenc-xl": Preset(
        name="resenc-xl",
        summary="nnU-Net's residual encoder XL: 40 GB of GPU memory",
        kind="residual",
        gpu_memory_gb=40.0,
        base_features=32,
        blocks_encoder=_RESENC_BLOCKS,
        blocks_decoder=(1,),
        max_dataset_fraction=1.0,
        planar=Target(features=560_000_000, batch=12, patch_batch=12, max_features=512),
        volumetric=Target(features=3_600_000_000, batch=2, patch_batch=2, max_features=320),
        epochs=1000,
    ),
}
"""Every preset by name, in the order in which help texts list them."""
