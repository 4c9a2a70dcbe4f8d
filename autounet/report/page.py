"""The report: one HTML file that needs nothing but itself, made of what a run folder holds."""

import base64
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from autounet import __version__
from autounet.artefact import digest_of
from autounet.colours import CONFUSED, EXTRA, MISSED, UNANNOTATED, class_colours
from autounet.dataset import DatasetSpec
from autounet.report.data_section import data_payload
from autounet.report.evidence import Evidence
from autounet.report.findings import findings_section
from autounet.report.payload import index_entries, results_payload, training_payload
from autounet.report.results import Results, main_results, pool
from autounet.report.sections import Sections, make_sections
from autounet.report.selection_section import selection_section
from autounet.report.viewer import Viewer, make_viewer, viewer_payload
from autounet.runtime import Runtime

MOST_BYTES = 14_000_000
"""Of the whole file."""

MOST_VIEWER_BYTES = 10_000_000
"""Of the slices; they take what the rest of the page leaves, but no more than this."""

SCRIPTS = ("core.js", "charts.js", "results.js", "viewer.js")
TEMPLATES = "templates"


def page_digest(evidence: Evidence, has_images: bool) -> str:
    """Hash of all that the page is made from, the page's own form among it: an equal one means that it is up to date.

    ``has_images``: whether the images are at hand, without which there are no slices.
    """
    form = {entry.name: _resource(entry.name) for entry in resources.files("autounet.report").joinpath(TEMPLATES).iterdir()}
    return digest_of([evidence.digest(), has_images, __version__, digest_of(form)])


def digest_of_page(path: Path) -> str | None:
    """The digest of the evidence that a page was made from; None where it is no report."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(4000)
    except OSError:
        return None
    _, mark, rest = head.partition('<meta name="autounet-made-from" content="')
    return rest.partition('"')[0] if mark else None


def build_page(evidence: Evidence, dataset: DatasetSpec | None, runtime: Runtime) -> str:
    """The page as text.

    Args:
        evidence: What the run folder holds.
        dataset: The images; None where they are not at hand, then no slices are shown and the page says so.
        runtime: Progress.
    """
    results = pool(evidence)
    main = main_results(results, None if evidence.selection is None else evidence.selection.chosen)
    sections = make_sections(evidence, results, main)
    nothing = Viewer((), ())
    with tempfile.TemporaryDirectory() as folder:
        drawings = _drawings(evidence, Path(folder))
    bare = _render(evidence, results, main, sections, drawings, nothing, dataset is not None)
    viewer = nothing
    if main is not None and dataset is not None:
        room = min(MOST_VIEWER_BYTES, MOST_BYTES - len(bare.encode("utf-8", "replace")))
        viewer = make_viewer(evidence, main, dataset, max(room, 0), runtime)
    if not (viewer.shown or viewer.failed):
        return bare
    return _render(evidence, results, main, sections, drawings, viewer, has_images=True)


def _render(
    evidence: Evidence,
    results: Sequence[Results],
    main: Results | None,
    sections: Sections,
    drawings: Mapping[str, str],
    viewer: Viewer,
    has_images: bool,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("autounet.report", TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = evidence.fingerprint.labels.names
    colours = dict(zip(names, class_colours(len(names)), strict=True))
    script = "\n".join(_resource(name) for name in SCRIPTS)
    style = _resource("report.css")
    payload = {
        "classes": [{"name": name, "colour": colour} for name, colour in colours.items()],
        "indices": index_entries(evidence.fingerprint.labels, colours),
        "errors": {"missed": MISSED, "extra": EXTRA, "confused": CONFUSED, "unannotated": UNANNOTATED},
        "partial": _is_partial(evidence),
        "channels": list(evidence.fingerprint.channels),
        "data": data_payload(evidence.fingerprint),
        "training": training_payload(evidence),
        "results": [results_payload(entry, evidence.fingerprint) for entry in results],
        "main": None if main is None else list(results).index(main),
        "viewer": [{"case": shown.case, "fold": shown.fold, "group": shown.group} for shown in viewer.shown],
    }
    return environment.get_template("report.html.j2").render(
        evidence=evidence,
        fingerprint=evidence.fingerprint,
        plan=evidence.plan,
        main=main,
        sections=sections,
        findings=findings_section(evidence),
        selection=selection_section(evidence),
        drawings=drawings,
        viewer=viewer,
        has_images=has_images,
        colours=colours,
        payload=_safe_json(payload),
        cases=[_safe_json(viewer_payload(shown)) for shown in viewer.shown],
        style=style,
        script=script,
        policy=_policy(style, script),
        digest=page_digest(evidence, has_images),
        version=__version__,
    )


def _is_partial(evidence: Evidence) -> bool:
    """Whether there are voxels that nobody has annotated."""
    fingerprint = evidence.fingerprint
    return fingerprint.labels.ignore_value is not None or any(fingerprint.is_partial(case) for case in fingerprint.cases)


def _policy(style: str, script: str) -> str:
    """Content-Security-Policy: this page's own script and style, pictures inside it, and nothing from anywhere else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _safe_json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _drawings(evidence: Evidence, folder: Path) -> dict[str, str]:
    """A drawing of each configuration's network as a data URL: that of the run folder, or one made in ``folder``."""
    drawings: dict[str, str] = {}
    if evidence.plan is None:
        return {}
    for name, configuration in evidence.plan.configurations.items():
        path = evidence.layout.network_drawing(name, ".svg")
        if not path.exists():
            from autounet.report.network import network_figure  # matplotlib is slow to import

            path = folder / f"{len(drawings)}.svg"
            network_figure(configuration, path, name)
        drawings[name] = f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
    return drawings


def _resource(name: str) -> str:
    return resources.files("autounet.report").joinpath(TEMPLATES, name).read_text(encoding="utf-8")
