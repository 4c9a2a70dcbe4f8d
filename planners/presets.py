"""The built-in presets. There is one planner; a preset only changes its numbers."""

from autounet.preset import OptimizerSpec, Preset, Target, Unpadded

_RESENC_BLOCKS = (1, 3, 4, 6)

PRESETS: dict[str, Preset] = {
    # nnunetv2 2.8.1, experiment_planners/default_experiment_planner.py: measured there on GPUs of 8 GB.
    "nnunet": Preset(
        name="nnunet",
        summary="nnU-Net's default: plain convolutions, for a GPU of 8 GB",
        kind="plain",
        gpu_memory_gb=8.0,
        features=(32,),
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
        features=(16,),
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
        features=(32,),
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
        features=(32,),
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
        features=(32,),
        blocks_encoder=_RESENC_BLOCKS,
        blocks_decoder=(1,),
        max_dataset_fraction=1.0,
        planar=Target(features=560_000_000, batch=12, patch_batch=12, max_features=512),
        volumetric=Target(features=3_600_000_000, batch=2, patch_batch=2, max_features=320),
        epochs=1000,
    ),
    # Ronneberger, Fischer and Brox 2015 (arXiv 1505.04597), trained there on a GPU of 6 GB: 572×572 pixels in, 388×388 out, one tile a
    # step. The memory is counted for that tile with one channel and two outputs.
    "unet2015": Preset(
        name="unet2015",
        summary="the original U-Net of 2015, for planar images or slice by slice: unpadded convolutions, 572×572 in, 388×388 out",
        kind="unet2015",
        gpu_memory_gb=6.0,
        features=(64,),
        blocks_encoder=(2,),
        blocks_decoder=(2,),
        max_dataset_fraction=1.0,
        planar=Target(features=140_000_000, batch=1, patch_batch=1, max_features=1024, max_batch=1),
        volumetric=None,
        unpadded=Unpadded(edge=572, stages=5),
        epochs=100,
        # The paper's momentum; without a norm, nnU-Net's rate is too high at the start (docs/experiments.md).
        optimizer=OptimizerSpec(learning_rate=0.003, momentum=0.99),
        augmentation="unet2015",
        loss="border_ce",
        min_batch=1,
    ),
}
"""Every preset by name, in the order in which help texts list them."""
