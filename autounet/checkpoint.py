"""Weights and training states on disk: tensors and JSON, never pickled code; written atomically."""

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from autounet.artefact import atomic_path, file_digest
from autounet.errors import ArtefactError

CONTENT = "content"
"""Under this name weights carry the hash of their own content."""


def save_weights(path: Path, weights: dict[str, torch.Tensor], about: dict[str, str]) -> None:
    """Writes weights as safetensors; ``about`` (plan digest, configuration, fold, epoch) goes into its header.

    Raises:
        ArtefactError: The disk refuses.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    about = {**about, CONTENT: _digest(tensors)}
    content = _in_order(save(tensors, metadata=about))
    with atomic_path(path) as temporary:  # the library would write to a temporary file of its own, which nobody would clear away
        temporary.write_bytes(content)


def weights_identity(path: Path) -> str:
    """What tells these weights from all others, wherever they are copied to: 16 hexadecimal digits. Raises ArtefactError.

    It was written down with them; of files that lack it, it is the hash of the file.
    """
    try:
        found = read_about(path).get(CONTENT)
    except ArtefactError:
        found = None  # whoever reads the weights says what is wrong with them
    try:
        return file_digest(path) if found is None else found
    except OSError as error:
        raise ArtefactError(f"{path}: weights cannot be read", found=error.strerror or error) from None


def _in_order(content: bytes) -> bytes:
    """A safetensors file whose header has the keys of ``about`` in order: the library has them in any, and equal weights are equal files.

    Source: the format's description, https://huggingface.co/docs/safetensors: eight bytes with the header's length, JSON, the tensors.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return content if len(text) > length else content[:8] + text.ljust(length) + content[8 + length :]


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights and what was written about them. Raises ArtefactError."""
    _check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: what safetensors gives is the mapped file, which Windows does not let us replace as long as a tensor lives, and
            # reading which ends the process when somebody cuts the file off.
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return weights, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: weights cannot be read", found=error, remedy="train this fold again with --overwrite") from None


def read_about(path: Path) -> dict[str, str]:
    """What was written about the weights, without reading them. Raises ArtefactError."""
    _check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: weights cannot be read", found=error, remedy="train this fold again with --overwrite") from None


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes a training state (nested dicts of tensors and plain values). Raises ArtefactError when the disk refuses."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # torch goes on after a write that failed, and then stumbles over what is missing
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def load_state(path: Path) -> dict[str, Any]:
    """Reads a training state onto the CPU; executes nothing. Raises ArtefactError."""
    _check_readable(path)
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()  # torch itself does not look at the checksums
        if damaged is not None:
            raise BadZipFile(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ArtefactError(f"{path}: checkpoint cannot be read", found=error, remedy="delete it to start this fold anew") from None
    if not isinstance(state, dict):
        raise ArtefactError(f"{path}: is not a checkpoint", remedy="delete it to start this fold anew")
    return state


def _check_readable(path: Path) -> None:
    """Raises ArtefactError for a file that is there and may not be read: safetensors calls it missing."""
    try:
        with path.open("rb"):
            pass
    except PermissionError as error:
        raise ArtefactError(f"{path}: cannot be read", found=error.strerror, remedy="ask its owner for permission to read it") from None
    except OSError:
        pass  # said by whoever reads it
