"""How intensities are normalised: the channel's name decides.

Rules of nnunetv2 2.8.1, ``normalization/map_channel_name_to_normalization.py`` and the mask rule of the planner.
"""

from collections.abc import Sequence
from typing import Literal

from autounet.fingerprint import Intensities
from autounet.plan import Decision, Normalization
from autounet.planners.words import percent

Scheme = Literal["zscore", "ct", "rescale", "rgb", "none"]

SCHEME_BY_CHANNEL: dict[str, Scheme] = {"ct": "ct", "nonorm": "none", "zscore": "zscore", "rescale_to_0_1": "rescale", "rgb_to_0_1": "rgb"}
"""Channel names (any case) that choose a scheme; all others get ``zscore``."""

MASK_BELOW = 0.75
"""Statistics are taken inside the nonzero region when cropping to it leaves less than this part of a typical image."""

SMALLEST_STD = 1e-8


def normalizations(
    channels: Sequence[str], intensities: Sequence[Intensities], relative_size: float
) -> tuple[tuple[Normalization, ...], tuple[Decision, ...]]:
    """One normalisation and one decision per channel.

    Args:
        channels: Names from dataset.json.
        intensities: Foreground intensities of each channel.
        relative_size: Median over images of cropped voxels / all voxels.
    """
    chosen, decisions = [], []
    for position, (channel, values) in enumerate(zip(channels, intensities, strict=True)):
        scheme = SCHEME_BY_CHANNEL.get(channel.casefold(), "zscore")
        name = f"normalisation of channel {position} ({channel})"
        if scheme == "ct":
            low, high, std = values.percentile_00_5, values.percentile_99_5, max(values.std, SMALLEST_STD)
            chosen.append(Normalization(scheme=scheme, lower=low, upper=high, mean=values.mean, std=std))
            shown = f"clip to {low:.5g}..{high:.5g}, subtract {values.mean:.5g}, divide by {std:.5g}"
            reason = "CT values mean the same in every image: 0.5th and 99.5th percentile, mean and deviation of all labelled voxels"
            decisions.append(Decision(name=name, value=shown, reason=reason))
            continue
        use_mask = scheme == "zscore" and relative_size < MASK_BELOW
        chosen.append(Normalization(scheme=scheme, use_mask=use_mask))
        decisions.append(Decision(name=name, value=_shown(scheme, use_mask), reason=_reason(scheme, channel, relative_size)))
    return tuple(chosen), tuple(decisions)


def _shown(scheme: Scheme, use_mask: bool) -> str:
    where = "its nonzero region" if use_mask else "the image"
    return {
        "zscore": f"per image: subtract the mean, divide by the standard deviation of {where}",
        "rescale": "per image: minimum..maximum to 0..1",
        "rgb": "0..255 to 0..1",
        "none": "none",
    }[scheme]


def _reason(scheme: Scheme, channel: str, relative_size: float) -> str:
    if scheme != "zscore":
        return f"the channel's name, '{channel}', asks for it"
    compared = "less" if relative_size < MASK_BELOW else "not less"
    return (
        f"'{channel}' is no scale with a fixed meaning, such as CT; "
        f"the nonzero region holds {percent(relative_size)} of a typical image, {compared} than {percent(MASK_BELOW)}"
    )
