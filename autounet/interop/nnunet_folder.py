"""Where the files of a trained nnU-Net model are: a folder, a folder of folders, or a zip of them."""

import lzma
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from autounet.errors import ArtefactError, UsageError

MOST_MEMBERS = 1_000_000
MOST_SMALL_BYTES = 2**27
"""Of plans, dataset.json or postprocessing in a zip; real ones have a few megabytes at most."""
MOST_CHECKPOINT_BYTES = 2**34
MOST_PACKED = 50
"""Weights hardly pack, and JSON not much more; what unfolds to more than so many times its size is no part of a model."""
MOST_UNPACKED = 1000
"""Of members that are needed: folds of all configurations, and a few files beside them."""
DEPTH = 3
"""Model folders are looked for so many folders below the one that is given."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """``trainer__plans__configuration``, or a folder of any name with the same content."""

    path: Path
    group: str
    """What models that belong together share: dataset and ``trainer__plans``; the folder's own name where it has another form."""

    def sibling(self, configuration: str) -> Path:
        """Where the model of another configuration of the same plans is."""
        return self.path.with_name("__".join((*self.path.name.split("__")[:2], configuration)))

    def checkpoints(self, checkpoint: str) -> dict[str, Path]:
        """Checkpoints by fold, cross-validation's first."""
        found = {path.parent.name.removeprefix("fold_"): path for path in self.path.glob(f"fold_*/checkpoint_{checkpoint}.pth")}
        found = {fold: path for fold, path in found.items() if re.fullmatch(r"[0-9]{1,4}|all", fold)}
        return dict(sorted(found.items(), key=lambda item: (item[0] == "all", item[0].zfill(4))))


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """A folder with the model's files: the one given, or for a zip a temporary one with those members that are needed.

    Raises:
        ArtefactError: There is no such thing, or the zip is damaged, leads out of its folder, has links or unfolds without end.
    """
    if path.is_dir():
        yield path.resolve()
        return
    if not path.exists():
        raise ArtefactError(f"{path}: no such file or folder")
    # Windows removes no file that is mapped, as checkpoints are while they are read.
    with tempfile.TemporaryDirectory(prefix="autounet-import-", ignore_cleanup_errors=True) as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, path, Path(folder))
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, struct.error) as error:
            remedy = "give the model's folder, or the zip of nnUNetv2_export_model_to_zip; copy or download it again if it is one"
            raise ArtefactError(f"{path}: is no zip, or a damaged one", found=error, remedy=remedy) from None
        except OSError as error:
            raise ArtefactError(f"{path}: cannot be unpacked", found=error.strerror or error, remedy="check the free space") from None
        except (RuntimeError, ValueError) as error:  # encrypted, or numbers that make no sense
            raise ArtefactError(f"{path}: cannot be unpacked", found=error) from None
        yield Path(folder)


def _unpack(archive: zipfile.ZipFile, path: Path, folder: Path) -> None:
    members = [member for member in archive.infolist() if not member.filename.endswith("/")]
    if len(members) > MOST_MEMBERS or len({member.filename for member in members}) < len(members):
        raise ArtefactError(f"{path}: refused", found=f"{len(members)} members, some of the same name or too many")
    for member in members:
        _check_member(member, path)
    needed = 0
    for member in members:
        inside = PurePosixPath(member.filename)
        large = re.fullmatch(r"checkpoint_(final|best)\.pth", inside.name) is not None
        if not large and inside.name not in {"plans.json", "dataset.json", "postprocessing.pkl"}:
            continue
        limit = min(MOST_CHECKPOINT_BYTES if large else MOST_SMALL_BYTES, MOST_PACKED * member.compress_size + 2**20)
        needed += 1
        if needed > MOST_UNPACKED:
            raise ArtefactError(f"{path}: refused", found=f"more than {MOST_UNPACKED} files of models", remedy="give a zip of one model")
        if member.file_size > limit:
            raise ArtefactError(f"{path}: '{member.filename}' is refused", found=f"{member.file_size} bytes", expected=f"at most {limit}")
        target = folder.joinpath(*inside.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 2**20)


def _check_member(member: zipfile.ZipInfo, path: Path) -> None:
    """Raises ArtefactError for a member that could be written elsewhere or is no plain file."""
    name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
    inside = PurePosixPath(name)
    outside = inside.is_absolute() or ".." in inside.parts or "\\" in name or ":" in name or not inside.parts or "\0" in name
    if outside or kind not in (0, stat.S_IFREG):
        found = f"'{name}', which leads out of its folder" if outside else f"'{name}', which is a link or a device"
        raise ArtefactError(f"{path}: refused", found=found, remedy="do not use this file; nothing of it was unpacked")


def find_models(root: Path, name: str | None, shown: Path) -> list[ModelFolder]:
    """The model folders in ``root`` (or the one that it is) that belong to one model.

    Args:
        root: Folder.
        name: Which, where several are there: ``trainer__plans``, the name of one model's folder, or either after ``dataset/``.
        shown: Stands for the folder in messages.

    Raises:
        ArtefactError: There is none.
        UsageError: There are several, or not the one that is asked for.
    """
    if _is_model(root):
        return [ModelFolder(root, _group(root))]
    found = [ModelFolder(path, _group(path)) for path in sorted(_below(root, DEPTH))]
    if not found:
        raise ArtefactError(
            f"{shown}: no trained nnU-Net model in it",
            expected="a folder with plans.json, dataset.json and fold_0/checkpoint_final.pth, or a folder or zip of such folders",
        )
    wanted = [model for model in found if name is None or name in _names(model)]
    groups = sorted({model.group for model in wanted})
    if len(groups) == 1:
        return wanted
    there = ", ".join(sorted({model.group for model in found}))
    if name is None:
        raise UsageError(f"{shown}: several models", found=there, remedy="name one of them with --name")
    raise UsageError(f"{shown}: no single model '{name}'", found=there, remedy="name one of them with --name")


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("fold_"):
            if _is_model(path):
                yield path
            elif depth > 1:
                yield from _below(path, depth - 1)


def _is_model(folder: Path) -> bool:
    # Folders of merged cross-validation results have plans as well, but no folds.
    return (folder / "plans.json").is_file() and any(path.is_dir() for path in folder.glob("fold_*"))


def _group(folder: Path) -> str:
    parts = folder.name.split("__")
    own = "__".join(parts[:2]) if len(parts) == 3 else folder.name
    return f"{folder.parent.name}/{own}"


def _names(model: ModelFolder) -> set[str]:
    full = f"{model.path.parent.name}/{model.path.name}"
    return {model.group, model.group.partition("/")[2], model.path.name, full}
