"""``autounet preprocess``: bring all cases to the network's grid; ``train`` does it by itself when needed."""

import time
from collections.abc import Sequence

from autounet.cli.console import duration
from autounet.cli.session import Session, alone, recorded
from autounet.cli.stages import choose_configuration, fresh_plan, load_dataset
from autounet.cli.wanted import Wanted
from autounet.preprocessing.run import prepare_dataset


def run_preprocess(session: Session, dataset: str, configurations: Sequence[str], wanted: Wanted) -> None:
    """Prepares all cases for the named configurations, or for all of the plan."""
    wanted.check()
    spec, layout = load_dataset(session, dataset)
    with recorded(session, layout), alone(session, layout):
        plan, _ = fresh_plan(session, spec, layout, wanted)
        names = configurations or [name for name, entry in plan.configurations.items() if entry.previous_stage is None]
        chosen = [choose_configuration(plan, name) for name in names]
        for entry in chosen:
            began = time.monotonic()
            folder = layout.prepared(entry.name)
            stored = prepare_dataset(spec, plan, entry, folder, session.runtime)
            megabytes = sum(sum(case.file_bytes) for case in stored) / 1e6
            session.screen.result(
                f"{entry.name}: {len(stored)} cases prepared in {folder} ({megabytes:.0f} MB, {duration(time.monotonic() - began)})"
            )
