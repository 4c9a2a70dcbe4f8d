"""What nnU-Net's plans may say that would make our prediction another than nnU-Net's: refused by name, never passed over."""

from collections.abc import Mapping
from typing import Any

from autounet.errors import ArtefactError

READERS = ("SimpleITKIO", "NibabelIO", "NaturalImage2DIO", "Tiff3DIO")
"""nnU-Net's readers that give voxels in the order of the file, as ours do."""

_RESAMPLING = {"resampling_fn_data": (False, 3), "resampling_fn_seg": (True, 1), "resampling_fn_probabilities": (False, 1)}
"""Whether it resamples labels, and the order of interpolation, in nnU-Net's default plans."""

_LIBRARY = "dynamic_network_architectures.architectures."
_NETWORKS = {f"{_LIBRARY}unet.PlainConvUNet", f"{_LIBRARY}unet.ResidualEncoderUNet", f"{_LIBRARY}residual_unet.ResidualEncoderUNet"}


def refuse_what_differs(plans: Mapping[str, Any], configuration: Mapping[str, Any], name: str) -> None:
    """Raises ArtefactError when plans and one of their configurations ask for what autounet does not do.

    Args:
        plans: Content of plans.json.
        configuration: One of its configurations with all it inherits, known to be well-formed as far as ``nnunet_plans`` looks.
        name: Stands for them in messages.
    """
    _expect(name, "image_reader_writer", plans.get("image_reader_writer"), READERS)
    _expect(name, "label_manager", plans.get("label_manager", "LabelManager"), ("LabelManager",))
    _expect(name, "preprocessor_name", configuration.get("preprocessor_name"), ("DefaultPreprocessor",))
    for key, (labels, order) in _RESAMPLING.items():
        _expect(name, key, configuration.get(key), ("resample_data_or_seg_to_shape",))
        usual = {"is_seg": labels, "order": order, "order_z": 0, "force_separate_z": None}
        _expect(name, f"{key}_kwargs", configuration.get(f"{key}_kwargs"), (usual,))
    if "architecture" in configuration:
        _refuse_other_networks(configuration["architecture"], len(configuration["patch_size"]), name)


def _refuse_other_networks(architecture: Mapping[str, Any], ndim: int, name: str) -> None:
    values = architecture["arch_kwargs"]
    _expect(name, "network_class_name", architecture["network_class_name"], tuple(sorted(_NETWORKS)))
    usual: dict[str, tuple[Any, ...]] = {
        "conv_op": (f"torch.nn.modules.conv.Conv{ndim}d",),
        "conv_bias": (True,),
        "norm_op": (f"torch.nn.modules.instancenorm.InstanceNorm{ndim}d",),
        "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
        "dropout_op": (None,),
        "dropout_op_kwargs": (None, {}),
        "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
        "nonlin_kwargs": ({"inplace": True}, {"inplace": True, "negative_slope": 0.01}, {"negative_slope": 0.01}),
    }
    for key, allowed in usual.items():
        _expect(name, key, values.get(key), allowed)
    optional: dict[str, tuple[Any, ...]] = {
        "deep_supervision": (True, False),
        "nonlin_first": (False,),
        "pool": ("conv",),
        "bottleneck_channels": (None,),
        "stem_channels": (None,),
    }
    blocks = {"n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder"}
    known = {"n_stages", "features_per_stage", "kernel_sizes", "strides", *blocks, *usual}
    for key in values:
        if key not in known:
            _expect(name, key, values[key], optional.get(key, ()))


def _expect(name: str, key: str, found: Any, allowed: tuple[Any, ...]) -> None:
    # True == 1 for Python; the types must be the same, too.
    if not any(found == value and type(found) is type(value) for value in allowed):
        shown = repr(found)[:200] if allowed else f"{found!r}"[:200]
        raise ArtefactError(
            f"{name}: '{key}' is one that autounet does not have, and without it predictions would differ",
            found=shown,
            expected=" or ".join(str(value) for value in allowed) or "no such key",
        )
