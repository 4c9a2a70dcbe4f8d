"""Policies: what each kind of augmentation does, as numbers.

Sources: ``nnunet``: nnunetv2 2.8.1, nnUNetTrainer.py, get_training_transforms; ``strong``: its variant nnUNetTrainerDA5.py; ``unet2015``:
Ronneberger et al. 2015, section 3.1; ``light``: chosen here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from autounet.preset import AugmentationKind
from autounet.training.augmentation.cascade import Cascade
from autounet.training.augmentation.intensity import (
    AboutOne,
    Boxes,
    Bump,
    IntensityTransform,
    Normal,
    Resolution,
    Uniform,
    add_brightness,
    add_bump,
    add_noise,
    blank_boxes,
    blur,
    change_gamma,
    change_gamma_inverted,
    lower_resolution,
    scale_brightness,
    scale_contrast,
    stretch_contrast,
)
from autounet.training.augmentation.spatial import Affine

CASCADE = Cascade()


@dataclass(frozen=True, slots=True)
class Policy:
    """All that may happen to a patch."""

    spatial: Affine | Literal["elastic"]
    """``elastic``: see the module of this name."""
    intensity: tuple[IntensityTransform, ...]
    """In the order in which they are applied."""
    mirror_probability: float
    """For each axis that may be mirrored."""
    cascade: Cascade = CASCADE
    """For the previous stage's prediction, in the second stage of a cascade."""


# nnU-Net calls the range of noise a variance and uses it as a standard deviation; so do we.
NOISE = IntensityTransform("noise", 0.1, 1.0, Uniform(0.0, 0.1), add_noise, shared=True)
BLUR = IntensityTransform("blur", 0.2, 0.5, Uniform(0.5, 1.0, per_axis=True), blur)
BRIGHTNESS = IntensityTransform("brightness", 0.15, 1.0, AboutOne(0.75, 1.25), scale_brightness)
CONTRAST = IntensityTransform("contrast", 0.15, 1.0, AboutOne(0.75, 1.25), scale_contrast)
LOW_RESOLUTION = IntensityTransform("low resolution", 0.25, 0.5, Resolution(0.5, 1.0), lower_resolution)
GAMMA_INVERTED = IntensityTransform("gamma of the negative", 0.1, 1.0, AboutOne(0.7, 1.5), change_gamma_inverted)
GAMMA = IntensityTransform("gamma", 0.3, 1.0, AboutOne(0.7, 1.5), change_gamma)

POLICIES: dict[AugmentationKind, Policy] = {
    "nnunet": Policy(
        spatial=Affine(rotation_probability=0.2, scaling_probability=0.2, scaling=(0.7, 1.4)),
        intensity=(NOISE, BLUR, BRIGHTNESS, CONTRAST, LOW_RESOLUTION, GAMMA_INVERTED, GAMMA),
        mirror_probability=0.5,
    ),
    "strong": Policy(
        spatial=Affine(
            rotation_probability=0.4, scaling_probability=0.2, scaling=(0.7, 1.43), axis_probability=0.5, one_scale=False, loaded_scale=0.7
        ),
        intensity=(
            replace(BLUR, values=Uniform(0.3, 1.5, per_axis=True)),
            NOISE,
            IntensityTransform("added brightness", 0.1, 0.5, Normal(0.5), add_brightness),
            IntensityTransform("contrast", 0.1, 0.5, AboutOne(0.5, 2.0), scale_contrast),
            IntensityTransform("contrast beyond the range", 0.1, 0.5, AboutOne(0.5, 2.0), stretch_contrast),
            IntensityTransform("low resolution", 0.15, 0.5, Resolution(0.25, 1.0), lower_resolution),
            GAMMA_INVERTED,
            GAMMA,
            IntensityTransform("blank boxes", 0.4, 0.5, Boxes(4), blank_boxes),
            IntensityTransform("bump of brightness", 0.3, 0.5, Bump(1.0, 5.0), add_bump),
        ),
        mirror_probability=0.5,
        cascade=Cascade(label_probability=1.0),
    ),
    "light": Policy(
        spatial=Affine(rotation_probability=0.1, scaling_probability=0.1, scaling=(0.85, 1.15), angle_share=0.5),
        intensity=(
            replace(NOISE, values=Uniform(0.0, 0.05)),
            replace(BRIGHTNESS, values=AboutOne(0.9, 1.1)),
            replace(CONTRAST, values=AboutOne(0.9, 1.1)),
            replace(GAMMA, probability=0.15, values=AboutOne(0.85, 1.2)),
        ),
        mirror_probability=0.5,
    ),
    "none": Policy(spatial=Affine(0.0, 0.0, (1.0, 1.0)), intensity=(), mirror_probability=0.0, cascade=Cascade(0.0, 0.0)),
    # The paper names "gray value variations" without numbers, so these are nnU-Net's.
    "unet2015": Policy(spatial="elastic", intensity=(BRIGHTNESS, CONTRAST, GAMMA_INVERTED, GAMMA), mirror_probability=0.5),
}
