"""What predicted the label maps of a folder, and from which images: those of another model or of other images are predicted anew."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autounet.artefact import digest_of, file_digest, readable_json, write_text_atomic
from autounet.cli.locks import one_at_a_time
from autounet.errors import ArtefactError
from autounet.image_names import image_state
from autounet.text_files import read_text

RECORD = ".predicted_by.json"
"""In the folder of label maps."""

CLAIMS = ".predicting-"
"""Beginning of the names of files that say which command predicts what at this moment."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a label map is of."""

    model: str
    """Digest of all that decides what is predicted."""
    images: str | None
    """As ``state_of`` gave; None where it is not known, as in records that older versions wrote."""
    content: str | None = None
    """Hash of the label map's file as it was written; None where that is not known."""

    def was_changed(self, label_map: Path) -> bool:
        """Whether somebody has changed the label map since, by hand perhaps."""
        return self.content is not None and _content_of(label_map) not in (None, self.content)


def _content_of(label_map: Path) -> str | None:
    try:
        return file_digest(label_map)
    except OSError:
        return None


def state_of(images: Sequence[Path]) -> str | None:
    """Digest of where the channels of a case lie, how large they are and when they were changed; None where that cannot be told.

    The place is part of it: images of the same name, size and time in two folders may well be two images.
    """
    try:
        return digest_of([[os.path.realpath(path), *image_state(path)] for path in images])
    except OSError:
        return None


def read_record(path: Path) -> dict[str, Source]:
    """Label map → what it is of, as ``note_predicted`` noted; empty where there is no record, or a damaged one.

    Raises:
        ArtefactError: The disk refuses to read it.
    """
    try:
        content = json.loads(read_text(path))
        found, images, written = content["predicted_by"], content.get("images", {}), content.get("contents", {})
        return {str(name): Source(str(model), images.get(name), written.get(name)) for name, model in found.items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror or error, remedy="check the disk, and try again") from None


def note_predicted(path: Path, sources: Mapping[str, Source]) -> None:
    """Notes of what label maps of a folder are, by their names. Raises ArtefactError."""
    if sources:
        with one_at_a_time(path.with_name(f"{CLAIMS}note"), lambda holder: None):
            known = dict(sorted((read_record(path) | dict(sources)).items()))
            content = {
                "contents": {name: source.content for name, source in known.items() if source.content is not None},
                "images": {name: source.images for name, source in known.items() if source.images is not None},
                "predicted_by": {name: source.model for name, source in known.items()},
            }
            write_text_atomic(path, readable_json(content) + "\n")


def note_contents(path: Path, label_maps: Sequence[Path], sources: Mapping[str, Source]) -> None:
    """Notes as what label maps of these sources were written, where that is not known yet: of those just made, and of a killed command's.

    Raises:
        ArtefactError: The record cannot be read or written.
    """
    known = read_record(path)
    left = [file for file in label_maps if known.get(file.name) == replace(sources[file.name], content=None) and file.exists()]
    note_predicted(path, {file.name: replace(sources[file.name], content=_content_of(file)) for file in left})
