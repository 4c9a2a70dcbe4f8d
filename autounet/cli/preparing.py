"""``autounet preprocess``: bring all cases to the network's grid; ``train`` does it by itself when needed."""

import time
from collections.abc import Sequence
from pathlib import Path

from autounet.cli.console import duration
from autounet.cli.session import Session, alone, recorded
from autounet.cli.stages import choose_configuration, fresh_plan, load_dataset
from autounet.cli.wanted import Wanted
from autounet.planners.words import count
from autounet.preprocessing.run import prepare_dataset


def run_preprocess(session: Session, dataset: str, configurations: Sequence[str], wanted: Wanted) -> None:
    """Prepares all cases for the named configurations; by default for all but the second stage of a cascade, which needs trained folds."""
    wanted.check()
    spec, layout = load_dataset(session, dataset)
    with recorded(session, layout), alone(session, layout):
        plan, _ = fresh_plan(session, spec, layout, wanted)
        names = configurations or [name for name, entry in plan.configurations.items() if entry.previous_stage is None]
        chosen = [choose_configuration(plan, name) for name in names]
        previous: dict[str, Path] = {}
        for entry in chosen:
            if entry.previous_stage is not None:
                from autounet.cli.cascades import out_of_fold  # takes torch, which many datasets do not need to be prepared

                previous |= out_of_fold(session, spec, layout, plan, entry)
        began = time.monotonic()
        stored = prepare_dataset(spec, plan, {entry.name: layout.prepared(entry.name) for entry in chosen}, session.runtime, previous)
        for name, cases in stored.items():
            megabytes = sum(sum(case.file_bytes) for case in cases) / 1e6
            session.screen.result(f"{name}: {len(cases)} cases prepared in {layout.prepared(name)} ({megabytes:.0f} MB)")
        session.screen.say(f"{count(len(spec.cases), 'case')} in {duration(time.monotonic() - began)}")
