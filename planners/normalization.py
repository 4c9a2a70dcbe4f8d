"""How intensities are normalised: the channel's name decides.

Rules of nnunetv2 2.8.1, ``normalization/map_channel_name_to_normalization.py`` and the mask rule of the planner.
"""

from collections.abc import Sequence

from autounet.fingerprint import Intensities
from autounet.plan import Decision, Normalization, NormalizationChoice, Scheme
from autounet.planners.words import percent

SCHEME_BY_CHANNEL: dict[str, Scheme] = {"ct": "ct", "nonorm": "none", "zscore": "zscore", "rescale_to_0_1": "rescale", "rgb_to_0_1": "rgb"}
"""Channel names (any case) that choose a scheme; all others get ``zscore``."""

SCHEMES: dict[NormalizationChoice, Scheme] = {
    "zscore": "zscore", "zscore+mask": "zscore", "ct": "ct", "rescale": "rescale", "rgb": "rgb", "none": "none",
}  # fmt: skip
"""Of what can be asked for."""

MASK_BELOW = 0.75
"""Statistics are taken inside the nonzero region when cropping to it leaves less than this part of a typical image."""

SMALLEST_STD = 1e-8


def normalizations(
    channels: Sequence[str], intensities: Sequence[Intensities], relative_size: float, wanted: Sequence[NormalizationChoice | None] = ()
) -> tuple[tuple[Normalization, ...], tuple[Decision, ...]]:
    """One normalisation and one decision per channel.

    Args:
        channels: Names from dataset.json.
        intensities: Foreground intensities of each channel.
        relative_size: Median over images of cropped voxels / all voxels.
        wanted: What the user decides, one per channel, None for the rule; empty for none.
    """
    chosen, decisions = [], []
    for position, (channel, values) in enumerate(zip(channels, intensities, strict=True)):
        name = f"normalisation of channel {position} ({channel})"
        scheme = SCHEME_BY_CHANNEL.get(channel.casefold(), "zscore")
        made = _normalization(scheme, scheme == "zscore" and relative_size < MASK_BELOW, values)
        reason, choice = _reason(scheme, channel, relative_size), wanted[position] if wanted else None
        if choice is not None:
            reason = f"by rule it would be: {normalization_shown(made)}; {reason}"
            made = _normalization(SCHEMES[choice], choice == "zscore+mask", values)
        chosen.append(made)
        decisions.append(Decision(name=name, value=normalization_shown(made), reason=reason, chosen_by="rule" if choice is None else "you"))
    return tuple(chosen), tuple(decisions)


def _normalization(scheme: Scheme, use_mask: bool, values: Intensities) -> Normalization:
    if scheme != "ct":
        return Normalization(scheme=scheme, use_mask=use_mask)
    low, high, std = values.percentile_00_5, values.percentile_99_5, max(values.std, SMALLEST_STD)
    return Normalization(scheme=scheme, lower=low, upper=high, mean=values.mean, std=std)


def normalization_shown(made: Normalization) -> str:
    """As people read it."""
    where = "its nonzero region" if made.use_mask else "the image"
    return {
        "ct": f"clip to {made.lower:.5g}..{made.upper:.5g}, subtract {made.mean:.5g}, divide by {made.std:.5g}",
        "zscore": f"per image: subtract the mean, divide by the standard deviation of {where}",
        "rescale": "per image: minimum..maximum to 0..1",
        "rgb": "0..255 to 0..1",
        "none": "none",
    }[made.scheme]


def _reason(scheme: Scheme, channel: str, relative_size: float) -> str:
    if scheme == "ct":
        return "CT values mean the same in every image: 0.5th and 99.5th percentile, mean and deviation of all labelled voxels"
    if scheme != "zscore":
        return f"the channel's name, '{channel}', asks for it"
    compared = "less" if relative_size < MASK_BELOW else "not less"
    return (
        f"'{channel}' is no scale with a fixed meaning, such as CT; "
        f"the nonzero region holds {percent(relative_size)} of a typical image, {compared} than {percent(MASK_BELOW)}"
    )
