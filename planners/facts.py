"""What each case alone tells of a dataset, kept beside the fingerprint: when cases are added, only those are read.

The fingerprint is made of these facts in the same way whether they were kept or measured now, so it is the same to the last bit. They are
of no use where more than 400 cases make the number of quantiles per case another one: then all cases are read again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autounet.artefact import atomic_path
from autounet.errors import Problem
from autounet.fingerprint import CaseFingerprint
from autounet.planners.laterality.side_by_side import Sighting

VERSION = 1
"""Of the file, and of what is measured: a change of either makes facts of before useless."""


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """Intensities of one channel of one case, over its labelled voxels."""

    mean: float
    variance: float
    minimum: float
    maximum: float
    quantiles: npt.NDArray[np.float32]
    """Ascending."""


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """What one case tells. ``fingerprint`` is None when its files could not be used."""

    problems: tuple[Problem, ...]
    ndim: int = 3
    fingerprint: CaseFingerprint | None = None
    channels: tuple[ChannelFacts, ...] = ()
    """Empty when the case has no labelled voxel."""
    sightings: tuple[Sighting, ...] = ()
    """Classes that lie side by side."""


def save_facts(path: Path, facts: Mapping[str, CaseFacts]) -> None:
    """Writes the facts of cases without problems, by a key that says what they were measured from. Raises ArtefactError."""
    good = {key: entry for key, entry in facts.items() if entry.fingerprint is not None and not entry.problems}
    described = {key: _described(entry) for key, entry in good.items()}
    rows = [channel.quantiles for entry in good.values() for channel in entry.channels]
    quantiles = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
    text = np.frombuffer(json.dumps({"version": VERSION, "cases": described}).encode(), np.uint8)
    with atomic_path(path, durable=False) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, text=text, quantiles=quantiles)


def load_facts(path: Path) -> dict[str, CaseFacts]:
    """The facts by key; empty where there are none that can be read."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            quantiles, content = file["quantiles"], json.loads(file["text"].tobytes())
        if content["version"] != VERSION:
            return {}
        rows = iter(quantiles)
        return {key: _read(entry, [next(rows) for _ in entry["channels"]]) for key, entry in content["cases"].items()}
    except Exception:  # of a damaged file numpy, zlib and zipfile raise many kinds; all cases are read then
        return {}


def _described(facts: CaseFacts) -> dict[str, Any]:
    assert facts.fingerprint is not None
    return {
        "ndim": facts.ndim,
        "fingerprint": facts.fingerprint.model_dump(mode="json"),
        "channels": [[channel.mean, channel.variance, channel.minimum, channel.maximum] for channel in facts.channels],
        "sightings": [asdict(sighting) for sighting in facts.sightings],
    }


def _read(entry: Mapping[str, Any], quantiles: list[npt.NDArray[np.float32]]) -> CaseFacts:
    return CaseFacts(
        problems=(),
        ndim=entry["ndim"],
        fingerprint=CaseFingerprint.model_validate_json(json.dumps(entry["fingerprint"])),
        channels=tuple(
            ChannelFacts(mean, variance, minimum, maximum, row)
            for (mean, variance, minimum, maximum), row in zip(entry["channels"], quantiles, strict=True)
        ),
        sightings=tuple(Sighting(**{**sighting, "pair": tuple(sighting["pair"])}) for sighting in entry["sightings"]),
    )
