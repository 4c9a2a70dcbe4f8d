"""nnU-Net's checkpoints: tensors and plain values only, and each tensor under our name for it."""

import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autounet.errors import ArtefactError
from autounet.networks.cost import parameters
from autounet.networks.unet import UNet
from autounet.plan import NetworkSpec

_SCALAR: Any = np.float64(0).__reduce__()[0]
_DTYPES = tuple(type(np.dtype(kind)) for kind in (np.bool_, np.int32, np.int64, np.float16, np.float32, np.float64))
SAFE_GLOBALS: list[Any] = [np.dtype, *_DTYPES, (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar")]
"""All that nnU-Net's checkpoints hold beside what torch itself allows: numpy's numbers, in the training's log."""
_SAFE_NAMES = {"numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}

MOST_PARAMETERS = 10**11

NAMES = (
    (r"encoder\.stem\.convs\.0\.", "encoder.stem."),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.", r"encoder.stages.\1.\2."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.", r"encoder.stages.\1.\2.first."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.", r"encoder.stages.\1.\2.second."),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.\d+\.", r"encoder.stages.\1.\2.shortcut."),
    (r"decoder\.transpconvs\.(\d+)\.", r"decoder.\1.up."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.convs.\2."),
    (r"decoder\.seg_layers\.(\d+)\.", r"heads.\1."),
)
"""Beginnings of parameter names in dynamic-network-architectures, and in autounet."""


@dataclass(frozen=True, slots=True)
class NnunetCheckpoint:
    """What predicting needs of a checkpoint."""

    file: Path
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    """Network axes along which nnU-Net mirrors."""
    weights: dict[str, Tensor]
    """By nnU-Net's names; they may lie in the file still."""


def read_checkpoint(path: Path) -> NnunetCheckpoint:
    """Reads ``checkpoint_final.pth`` or ``checkpoint_best.pth``; executes nothing in it.

    Raises:
        ArtefactError: The file is damaged, names anything that nnU-Net's checkpoints do not hold, or lacks what they do.
    """
    _check_archive(path)
    try:
        named = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - _SAFE_NAMES
        if named:
            raise ArtefactError(
                f"{path}: refused, because reading it would need code that no nnU-Net checkpoint holds",
                found=", ".join(sorted(named)[:5]),
                remedy="ask who made the file what that is for; nothing of it was executed",
            )
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except ArtefactError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ArtefactError(f"{path}: cannot be read as a checkpoint", found=str(error).split("\n")[0][:300]) from None
    return _content(path, content)


def _check_archive(path: Path) -> None:
    """A checkpoint is a zip whose members are as they are; a packed one could unfold to any size."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        size = path.stat().st_size
    except FileNotFoundError:
        raise ArtefactError(f"{path}: no such checkpoint") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise ArtefactError(f"{path}: is no checkpoint, or a part of one", found=error, remedy="copy or download it again") from None
    if any(member.compress_type != zipfile.ZIP_STORED for member in members) or sum(member.file_size for member in members) > size:
        raise ArtefactError(f"{path}: is no checkpoint of nnU-Net", found="packed content", expected="a file as torch.save writes it")


def _content(path: Path, content: Any) -> NnunetCheckpoint:
    if not isinstance(content, dict):
        raise ArtefactError(f"{path}: is no checkpoint of nnU-Net", found=f"a {type(content).__name__}")
    weights, given, trainer = content.get("network_weights"), content.get("init_args"), content.get("trainer_name")
    configuration = given.get("configuration") if isinstance(given, dict) else None
    if not isinstance(configuration, str) or not isinstance(trainer, str) or not isinstance(weights, dict) or not weights:
        missing = "no network_weights, init_args.configuration or trainer_name"
        raise ArtefactError(f"{path}: is no checkpoint of nnU-Net v2", found=missing)
    axes = content.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, (tuple, list)) or not all(type(axis) is int and 0 <= axis < 3 for axis in axes):
        raise ArtefactError(f"{path}: mirroring axes that are none", found=str(axes)[:100])
    return NnunetCheckpoint(path, configuration, trainer, tuple(sorted(set(axes))), weights)


def our_weights(checkpoint: NnunetCheckpoint, spec: NetworkSpec) -> dict[str, Tensor]:
    """The weights under our names, float32, in memory of their own.

    Raises:
        ArtefactError: The checkpoint's network is another than the plans say; the message names the tensor.
    """
    file, found = checkpoint.file, dict[str, Tensor]()
    for name, tensor in checkpoint.weights.items():
        ours = _our_name(name)
        if not isinstance(tensor, Tensor) or ours is None or not tensor.is_floating_point() or tensor.layout != torch.strided:
            raise _of_another_network(file, found=f"'{str(name)[:200]}'")
        if ours in found and not _same(found[ours], tensor):
            raise ArtefactError(f"{file}: two names of one tensor hold different values", found=f"'{name}'")
        found.setdefault(ours, tensor)
    if parameters(spec) > MOST_PARAMETERS:
        raise _of_another_network(file, found=f"{len(found)} tensors", expected=f"{parameters(spec)} parameters")
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in UNet(spec).state_dict().items()}
    for name, shape in expected.items():
        if name not in found:
            raise _of_another_network(file, found=f"nothing for '{name}'")
        tensor = found[name]
        if tuple(tensor.shape) != shape or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise _of_another_network(file, found=f"'{name}' of {tuple(tensor.shape)}", expected=str(shape))
    if extra := set(found) - set(expected):
        raise _of_another_network(file, found=f"'{min(extra)}'")
    weights = {name: found[name].to(torch.float32, copy=True).contiguous() for name in expected}
    if bad := [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]:
        raise ArtefactError(f"{file}: '{bad[0]}' holds NaN or infinity", remedy="this training has failed; use another checkpoint")
    return weights


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)


def _of_another_network(file: Path, found: str, expected: str | None = None) -> ArtefactError:
    return ArtefactError(
        f"{file}: its network is not the one in plans.json",
        found=found,
        expected=expected,
        remedy="use a model whose trainer has nnU-Net's own networks",
    )


def _our_name(name: object) -> str | None:
    """Our name of a tensor, None for one that nnU-Net's networks do not have.

    Theirs hold most tensors under several names: the decoder knows the encoder, and blocks list their parts again.
    """
    if not isinstance(name, str):
        return None
    while name.startswith(("module.", "_orig_mod.")):
        name = name.partition(".")[2]
    name = name.removeprefix("decoder.") if name.startswith("decoder.encoder.") else name
    name = re.sub(r"\.all_modules\.([01])\.", lambda match: (".conv.", ".norm.")[int(match[1])], name)
    for pattern, replacement in NAMES:
        changed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return changed
    return None
