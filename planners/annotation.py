"""Which classes are annotated in which cases, and what it means where that is not all of them."""

from autounet.fingerprint import Fingerprint
from autounet.plan import Decision
from autounet.planners.words import count

CLASSES_SHOWN = 6


def annotation_decision(fingerprint: Fingerprint) -> Decision | None:
    """Tells how many cases are annotated in part, and how often each class is; None where all cases have all classes.

    Nothing else is decided otherwise for them: training and scoring leave out, case by case, what is not annotated.
    """
    partial, total = [case for case in fingerprint.cases if fingerprint.is_partial(case)], len(fingerprint.cases)
    if not partial:
        return None
    missing = {name: sum(name not in case.class_voxels for case in partial) for name in fingerprint.labels.names}
    seldom = sorted((name for name in missing if missing[name]), key=lambda name: -missing[name])  # equals in the dataset's order
    shown = ", ".join(f"{name} in {total - missing[name]}" for name in seldom[:CLASSES_SHOWN])
    more = f" and {len(seldom) - CLASSES_SHOWN} more not in all" if len(seldom) > CLASSES_SHOWN else ""
    if fingerprint.labels.overlapping:
        meaning = "only a case's annotated regions are trained and scored in it"
    else:
        meaning = "where a class is not annotated, background may be that class: training takes either, and it is not scored"
    return Decision(
        name="annotation", value=f"{len(partial)} of {count(total, 'case')} in part", reason=f"by dataset.json {shown}{more}; {meaning}"
    )
