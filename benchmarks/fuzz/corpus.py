"""The inputs of past findings, which are committed and tried again by every run and by tests/hostile."""

from pathlib import Path

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "hostile" / "corpus"
"""One folder for each target; a file's name says what was wrong."""


def findings_of(target: str) -> dict[str, bytes]:
    """Inputs by name."""
    folder = CORPUS / target
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}
