"""The documents say what the kinds of augmentation do in the numbers that are used."""

from pathlib import Path

from autounet.training.augmentation.intensity import AboutOne, Boxes, Bump, IntensityTransform, Normal, Resolution, Uniform
from autounet.training.augmentation.policy import POLICIES, Policy

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "augmentation.md"
SHOWN = ("nnunet", "strong", "light", "unet2015")


def _share(probability: float) -> str:
    return f"{100 * probability:g} %"


def _numbers(transform: IntensityTransform) -> str:
    values = transform.values
    if isinstance(values, Uniform | AboutOne | Resolution):
        return f"{values.low:g} to {values.high:g}"
    if isinstance(values, Bump):
        return f"±{values.low:g} to {values.high:g}"
    if isinstance(values, Normal):
        return f"σ {values.std:g}"
    assert isinstance(values, Boxes)
    return f"1 to {values.most}"


def _spatial(policy: Policy) -> tuple[str, str]:
    affine = policy.spatial
    if affine == "elastic":
        return "always", "–"
    axes = "" if affine.axis_probability == 1 else f", each axis {_share(affine.axis_probability)}"
    angle = "" if affine.angle_share == 1 else f", {affine.angle_share:g} of the angle"
    each = "" if affine.one_scale else ", each axis its own"
    low, high = affine.scaling
    return f"{_share(affine.rotation_probability)}{axes}{angle}", f"{_share(affine.scaling_probability)}, {low:g} to {high:g}{each}"


def test_the_table_of_kinds_has_the_numbers_of_the_policies() -> None:
    rows = [["rotation", *(_spatial(POLICIES[kind])[0] for kind in SHOWN)], ["scaling", *(_spatial(POLICIES[kind])[1] for kind in SHOWN)]]
    for name in dict.fromkeys(transform.name for kind in SHOWN for transform in POLICIES[kind].intensity):
        cells = []
        for kind in SHOWN:
            found = [transform for transform in POLICIES[kind].intensity if transform.name == name]
            channels = f" × {_share(found[0].channel_probability)}" if found and found[0].channel_probability < 1 else ""
            cells.append(f"{_share(found[0].probability)}{channels}, {_numbers(found[0])}" if found else "–")
        rows.append([name, *cells])
    rows.append(["mirroring, each axis", *(_share(POLICIES[kind].mirror_probability) for kind in SHOWN)])
    text = PAGE.read_text(encoding="utf-8")
    missing = [line for line in ("| " + " | ".join(row) + " |" for row in rows) if line not in text]
    assert missing == [], "\n".join(missing)
    assert POLICIES["none"].intensity == ()


def test_the_cascades_numbers_are_in_the_text() -> None:
    cascade, text = POLICIES["nnunet"].cascade, PAGE.read_text(encoding="utf-8")
    for number in (cascade.operator_probability, cascade.removal_probability, cascade.label_probability, cascade.largest_share):
        assert _share(number) in text
    assert f"radius {cascade.radius[0]:g} to {cascade.radius[1]:g} voxels" in " ".join(text.split())
