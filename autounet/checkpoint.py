"""Weights and training states on disk: tensors and JSON, never pickled code; written atomically."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from autounet.artefact import atomic_path
from autounet.errors import ArtefactError


def save_weights(path: Path, weights: dict[str, torch.Tensor], about: dict[str, str]) -> None:
    """Writes weights as safetensors; ``about`` (plan digest, configuration, fold, epoch) goes into its header.

    Raises:
        ArtefactError: The disk refuses.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_path(path) as temporary, _refusals(path, SafetensorError):
        save_file(tensors, temporary, metadata=about)


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights and what was written about them. Raises ArtefactError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: weights cannot be read", found=error, remedy="train this fold again with --overwrite") from None


def read_about(path: Path) -> dict[str, str]:
    """What was written about the weights, without reading them. Raises ArtefactError."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"{path}: weights cannot be read", found=error, remedy="train this fold again with --overwrite") from None


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Writes a training state (nested dicts of tensors and plain values). Raises ArtefactError when the disk refuses."""
    # torch reports a full disk as a RuntimeError.
    with atomic_path(path) as temporary, _refusals(path, RuntimeError):
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Reads a training state onto the CPU; executes nothing. Raises ArtefactError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ArtefactError(f"{path}: checkpoint cannot be read", found=error, remedy="delete it to start this fold anew") from None
    if not isinstance(state, dict):
        raise ArtefactError(f"{path}: is not a checkpoint", remedy="delete it to start this fold anew")
    return state


@contextmanager
def _refusals(path: Path, kind: type[Exception]) -> Iterator[None]:
    """Turns the libraries' own kind of write error into ours."""
    try:
        yield
    except kind as error:
        raise ArtefactError(f"{path}: cannot be written", found=error, remedy="check the folder's permissions and free space") from None
