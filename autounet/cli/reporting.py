"""``autounet report``: everything that is known about a dataset and its models, as one page that opens from disk."""

from pathlib import Path

from autounet.artefact import write_text_atomic
from autounet.cli.session import Session, check_writable, recorded, tidy
from autounet.cli.stages import some
from autounet.dataset import DatasetSpec, read_dataset
from autounet.dataset_search import find_dataset, matching_folders
from autounet.errors import UsageError
from autounet.layout import RunLayout
from autounet.report.evidence import gather
from autounet.report.page import build_page, digest_of_page, page_digest


def run_report(session: Session, query: str, output: Path | None, overwrite: bool) -> None:
    """Writes the page, unless the one that is there was made from the same things."""
    dataset, layout = find_run(session, query)
    path = output or layout.report
    if path.is_dir():
        raise UsageError(f"-o {path}: is a folder", remedy="name a file, such as report.html")
    evidence = gather(layout, dataset)
    if not overwrite and digest_of_page(path) == page_digest(evidence, dataset is not None):
        tidy(layout)
        session.screen.result(f"Up to date: {path}")
        session.screen.json({"report": str(path), "written": False, "bytes": path.stat().st_size})
        return
    if output is not None:
        check_writable(path.parent, "-o")
    with recorded(session, layout, must_be=output is None):
        if dataset is None:
            session.screen.warn(f"the dataset of {layout.root} is not at hand: no slices; name its folder with -d or --data")
        for note in evidence.missing:
            session.screen.say(note)
        page = build_page(evidence, dataset, session.runtime)
        write_text_atomic(path, page)
        size = path.stat().st_size
        session.screen.result(f"Written to {path} ({size / 1e6:.1f} MB); open it in a browser")
    session.screen.json({"report": str(path), "written": True, "bytes": size})


def find_run(session: Session, query: str) -> tuple[DatasetSpec | None, RunLayout]:
    """The dataset that ``-d`` means, None where only its run folder is left, and the run folder.

    Raises:
        UsageError: Neither is found.
        DatasetError: The dataset is found and malformed.
    """
    try:
        dataset = read_dataset(find_dataset(query, session.data))
    except UsageError as error:
        there = sorted(path.parent.name for path in session.runs.glob("*/fingerprint.json"))
        matches = matching_folders(query.rstrip("/"), there)
        if len(matches) == 1:
            return None, session.layout(matches[0])
        raise UsageError(
            error.what, found=error.found, remedy=f"{error.remedy}; run folders in {session.runs}: {some(there) or 'none'}"
        ) from None
    return dataset, session.layout(dataset.name)
