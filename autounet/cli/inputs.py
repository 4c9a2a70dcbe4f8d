"""``predict -i cases.csv``: images to predict that a table names, as those of a dataset are named."""

from collections.abc import Sequence
from pathlib import Path

from autounet.dataset_table import TABLE_ENDINGS, read_table
from autounet.errors import DatasetError, Problem
from autounet.planners.words import count


def is_table(images: Path) -> bool:
    """Whether ``-i`` names a table."""
    return images.suffix.lower() in TABLE_ENDINGS and images.is_file()


def table_inputs(table: Path, channels: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Cases to predict: name → files, one per channel or one with all; other columns than images and ``id`` are passed over.

    Args:
        table: A table as ``autounet dataset create`` takes it; it needs no label maps.
        channels: Names of the model's channels, which columns may have.

    Raises:
        DatasetError: Rows are wrong; ``problems`` has every finding.
    """
    cases = read_table(table, channels, labelled=False)
    problems = [
        Problem(case.where, f"{count(len(case.images), 'image')}, but the model has {count(len(channels), 'channel')}", "name one for each")
        for case in cases
        if len(case.images) not in (1, len(channels))
    ]
    if problems:
        raise DatasetError(f"{table}: {count(len(problems), 'problem')}", problems=problems)
    return {case.id: case.images for case in cases}
