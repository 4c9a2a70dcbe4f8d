"""Which configuration, or ensemble of several, is the model."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod
from typing import Literal

from autounet.evaluation.scores import Scores
from autounet.evaluation.statistics import Spread, case_dice, dice_table, difference_spread, mean_spread, rank_correlation, signed_rank_p
from autounet.inference.crossval import CrossValidation, score_ensembles, true_files
from autounet.inference.model import find_trained
from autounet.inference.tune_postprocessing import tune_postprocessing
from autounet.inference.validate import read_confidence
from autounet.layout import RunLayout
from autounet.networks.cost import multiply_adds
from autounet.plan import Plan
from autounet.runtime import Runtime
from autounet.selection import JOIN, Candidate, Comparison, Interval, Selection
from autounet.splits import Splits

Rule = Literal["best", "cheapest"]
RULES: dict[str, Rule] = {"best": "best", "cheapest": "cheapest"}
SIGNIFICANT = 0.05


def scored_folds(layout: RunLayout, plan: Plan, splits: Splits) -> dict[str, tuple[str, ...]]:
    """Configuration → folds of cross-validation that are trained and scored, in the plan's order."""
    found: dict[str, list[str]] = {}
    for entry in find_trained(layout):
        if (
            entry.fold in splits.names
            and entry.configuration in plan.configurations
            and layout.fold(entry.configuration, entry.fold).scores.exists()
        ):
            found.setdefault(entry.configuration, []).append(entry.fold)
    return {name: tuple(found[name]) for name in plan.configurations if name in found}


def common_folds(there: Mapping[str, Sequence[str]]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The configurations that are compared, and the folds that all of them have.

    Where they have none in common, those with the fewest folds are left out until they do.
    """
    kept = dict(sorted(there.items(), key=lambda item: -len(item[1])))
    while kept:
        common = set.intersection(*(set(folds) for folds in kept.values()))
        if common:
            return {name: tuple(there[name]) for name in there if name in kept}, tuple(sorted(common, key=int))
        kept.popitem()
    return {}, ()


def groups_of(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The ensembles that are tried: all pairs, and of three or more configurations all of them."""
    pairs = [tuple(pair) for pair in combinations(names, 2)]
    return pairs + ([tuple(names)] if len(names) > 2 else [])


def select(
    validation: CrossValidation,
    configurations: Sequence[str],
    runtime: Runtime,
    *,
    ensembles: bool = True,
    rule: Rule = "best",
    missing: Sequence[str] = (),
    made_from: Mapping[str, str] | None = None,
) -> Selection:
    """Scores every candidate on the held-out cases, chooses, and tunes the postprocessing of the chosen one.

    Source of the rule ``best``: nnunetv2 2.8.1, ``evaluation/find_best_configuration.py``: the highest mean Dice; of equals the one with
    fewer configurations, which here is the cheapest.

    Args:
        validation: Dataset, plan, folds.
        configurations: Trained and scored in all of these folds.
        runtime: Device, workers, progress.
        ensembles: Whether averages of configurations are tried.
        rule: See ``Selection``.
        missing: What was left out, to be told.
        made_from: Content hashes to note in the artefact.

    Raises:
        DatasetError: Cases could not be predicted, or label maps of held-out cases cannot be used.
    """
    scores = {name: validation.scored((name,), runtime) for name in configurations}
    if ensembles and len(configurations) > 1:
        scores |= score_ensembles(validation, groups_of(configurations), runtime)
    candidates = sorted((_candidate(name, each, validation.plan) for name, each in scores.items()), key=_order)
    best = candidates[0]
    comparisons = tuple(_compare(best, other, scores) for other in candidates[1:])
    chosen, reason = _choose(candidates, comparisons, rule)
    files = true_files(validation, validation.predictions(chosen.configurations))
    tuned = tune_postprocessing(files, validation.plan.labels, runtime, validation.annotated)
    return Selection(
        made_from=dict(made_from or {}),
        rule=rule,
        folds=validation.folds,
        cases=len(files),
        missing=tuple(missing),
        candidates=tuple(candidates),
        chosen=chosen.name,
        reason=reason,
        comparisons=comparisons,
        postprocessing=tuned.steps,
        decisions=tuned.decisions,
        dice_before=tuned.before.mean.dice,
        dice_after=tuned.after.mean.dice,
        confidence_rank_correlation=_confidence(validation, chosen.configurations[0], scores[chosen.configurations[0]]),
    )


def cost_of(plan: Plan, name: str) -> float:
    """Billions of multiplications of a configuration's network, and of the stage before it, for an image of typical size."""
    configuration = plan.configurations[name]
    slices = 1.0
    if configuration.ndim == 2:  # whose median shape is that of a slice
        volumes = [entry for entry in plan.configurations.values() if entry.ndim == 3 and entry.previous_stage is None]
        slices = max((entry.median_shape[0] for entry in volumes), default=1.0)
    patches = prod(configuration.median_shape) / prod(configuration.patch_size)
    work = multiply_adds(configuration.network, configuration.patch_size) * patches * slices / 1e9
    return work + (0.0 if configuration.previous_stage is None else cost_of(plan, configuration.previous_stage))


def _candidate(name: str, scores: Scores, plan: Plan) -> Candidate:
    configurations = tuple(name.split(JOIN))
    return Candidate(
        name=name,
        configurations=configurations,
        dice=_interval(mean_spread(dice_table(scores))),
        classes={entry: mean.dice for entry, mean in scores.classes.items()},
        cost=sum(cost_of(plan, each) for each in configurations),
    )


def _order(candidate: Candidate) -> tuple[float, float]:
    """The best first; of equals the cheapest."""
    return (-candidate.dice.value if candidate.dice is not None else 1.0, candidate.cost)


def _compare(first: Candidate, second: Candidate, scores: Mapping[str, Scores]) -> Comparison:
    one, two = dice_table(scores[first.name]), dice_table(scores[second.name])
    p_value, cases = signed_rank_p(one, two)
    difference = _interval(difference_spread(one, two)) or Interval(value=0.0, low=0.0, high=0.0)
    return Comparison(first=first.name, second=second.name, difference=difference, p_value=p_value, cases=cases)


def _choose(candidates: Sequence[Candidate], comparisons: Sequence[Comparison], rule: Rule) -> tuple[Candidate, str]:
    best = candidates[0]
    if len(candidates) == 1:
        return best, "the only candidate"
    value = "undefined" if best.dice is None else f"{best.dice.value:.4f}"
    if rule == "best":
        equal = [each.name for each in candidates[1:] if _order(each)[0] == _order(best)[0]]
        tie = f", as have {', '.join(equal)}, which cost more" if equal else ""
        return best, f"the highest mean Dice, {value}{tie}"
    likely = {entry.second for entry in comparisons if not _is_worse(entry)}
    cheapest = min((each for each in candidates if each is best or each.name in likely), key=lambda each: each.cost)
    if cheapest is best:
        return best, f"the highest mean Dice, {value}; whatever costs less is significantly worse"
    return cheapest, f"the cheapest of those that are not significantly worse than {best.name} (mean Dice {value})"


def _is_worse(comparison: Comparison) -> bool:
    """Whether the second is worse than chance explains: the interval of the difference lies above 0, and so says the paired test."""
    return comparison.difference.low > 0 and comparison.p_value is not None and comparison.p_value < SIGNIFICANT


def _confidence(validation: CrossValidation, configuration: str, scores: Scores) -> float | None:
    """How well the expected Dice orders the held-out cases of a configuration."""
    expected: dict[str, float | None] = {}
    for fold in validation.folds:
        expected |= read_confidence(validation.layout.fold(configuration, fold))
    true = case_dice(scores)
    pairs = [(value, true[case]) for case, value in expected.items() if value is not None and case in true]
    return rank_correlation([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _interval(spread: Spread | None) -> Interval | None:
    return None if spread is None else Interval(value=spread.value, low=spread.low, high=spread.high)
