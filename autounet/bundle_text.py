"""What a bundle says about itself, for people who have got nothing but the file."""

from typing import Annotated

from pydantic import Field

from autounet.artefact import Frozen
from autounet.plan import Plan
from autounet.postprocessing import FillHoles, KeepLargest, Postprocessing, RemoveSmall

Line = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Text = Annotated[str, Field(max_length=20_000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$")]


class About(Frozen):
    """What people should know about a model."""

    name: Line
    """The dataset's, unless another is given."""
    selection: Line
    """Configuration that predicts unless another is asked for."""
    created: Line
    """Date."""
    origin: Line
    """What trained it: ``autounet 0.2.0``, or ``nnU-Net v2, nnUNetTrainer/nnUNetPlans``."""
    licence: Text = ""
    description: Text = ""


def readme(about: About, example: str, plan: Plan, postprocessing: Postprocessing | None) -> str:
    """Plain text: what this is, how to predict with it, channels, labels, licence."""
    channels = "\n".join(f"  {number}  {channel}" for number, channel in enumerate(plan.channels))
    labels = "\n".join(f"  {value}  {label}" for value, label in _labels(plan))
    steps = "" if postprocessing is None else "\n".join(f"  {line}" for line in describe_steps(plan, postprocessing))
    parts = [
        f"{about.name}\n{'=' * len(about.name)}",
        about.description,
        f"A trained segmentation model, written {about.created}.\nTrained by {about.origin}.\n"
        f"Configurations: {', '.join(plan.configurations)}; {about.selection} predicts unless another is chosen with -c.",
        f"Predict with it:\n\n  {example}\n\nwhere images/ holds files such as case{plan.file_ending} or, one per channel,\n"
        f"case_0000{plan.file_ending}, case_0001{plan.file_ending}.",
        f"Channels, in this order:\n{channels}",
        f"Labels:\n{labels}",
        steps and f"Postprocessing, done unless --no-postprocessing is given:\n{steps}",
        f"Licence: {about.licence or 'not stated; ask who gave you the file'}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def describe_steps(plan: Plan, postprocessing: Postprocessing) -> list[str]:
    """One line for each step, with the labels' names."""
    names = {entry.values: entry.name for entry in plan.labels.classes}
    single = {value: entry.name for entry in plan.labels.classes for value in entry.values if len(entry.values) == 1}
    lines = []
    for step in postprocessing.steps:
        everything = set(step.values) == set(plan.labels.foreground_values) and len(step.values) > 1
        shown = names.get(step.values) or " and ".join(single.get(value, f"label {value}") for value in step.values)
        shown = "the whole foreground" if everything else shown
        match step:
            case KeepLargest():
                lines.append(f"only the largest component of {shown} is kept")
            case RemoveSmall():
                unit = "mm²" if plan.ndim == 2 else "mm³"
                lines.append(f"components of {shown} below {step.below_mm:g} {unit} are removed")
            case FillHoles():
                lines.append(f"holes in {shown} are filled")
    return lines


def _labels(plan: Plan) -> list[tuple[str, str]]:
    rows = [("0", plan.labels.background_name)]
    rows += [(", ".join(map(str, entry.values)), entry.name) for entry in plan.labels.classes]
    return rows + ([] if plan.labels.ignore_value is None else [(str(plan.labels.ignore_value), "not annotated, never predicted")])
