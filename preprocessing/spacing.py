"""What follows from the spacing before and after resampling: the new size, and which axis is thick. nnU-Net's rules."""

from autounet.geometry import Triple, TripleMm

ANISOTROPY = 3.0
"""Above this ratio of largest to smallest spacing the thick axis is resampled on its own, by nearest neighbour."""


def new_shape(shape: Triple, spacing_mm: TripleMm, target_mm: TripleMm) -> Triple:
    """Size after resampling; rounds half to even, as nnU-Net's ``compute_new_shape`` does."""
    a, b, c = (round(old / new * size) for old, new, size in zip(spacing_mm, target_mm, shape, strict=True))
    return max(a, 1), max(b, 1), max(c, 1)


def separate_axis(spacing_mm: TripleMm, target_mm: TripleMm) -> int | None:
    """The thick axis that is resampled on its own, or None.

    It is the axis of the largest current spacing if that is anisotropic, else of the target's; none if two axes share the
    largest spacing. Source: nnunetv2 2.8.1, ``default_resampling.py``, determine_do_sep_z_and_axis.
    """
    for spacing in (spacing_mm, target_mm):
        if max(spacing) / min(spacing) > ANISOTROPY:
            thick = [axis for axis in range(3) if spacing[axis] == max(spacing)]
            return thick[0] if len(thick) == 1 else None
    return None
