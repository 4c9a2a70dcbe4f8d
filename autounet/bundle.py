"""A bundle: one file with all that predicting needs, made to be given away. A plain zip of JSON and safetensors; no code."""

import hashlib
import re
import shlex
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import safetensors.torch
from pydantic import Field
from safetensors import SafetensorError
from torch import Tensor

from autounet.archive import list_members, read_member, shown
from autounet.artefact import Artefact, Frozen, atomic_path
from autounet.bundle_check import REMEDY, check_weights, fault_of_postprocessing, faults_of_plan
from autounet.bundle_text import About, Line, readme
from autounet.errors import ArtefactError, UsageError
from autounet.plan import Plan
from autounet.postprocessing import Postprocessing
from autounet.selection import configurations_of
from autounet.splits import in_words

MANIFEST, PLAN, POSTPROCESSING, README = "bundle.json", "plan.json", "postprocessing.json", "README.txt"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}"
_FOLD = r"[0-9]{1,6}|all"
KNOWN = re.compile(rf"bundle\.json|plan\.json|postprocessing\.json|README\.txt|models/{_NAME}/fold_(?:{_FOLD})/weights\.safetensors")
"""All names that members may have."""
MOST_JSON_BYTES = 2**24
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The same content is the same file, whenever it is written."""

_Kind = TypeVar("_Kind", bound=Artefact)


class Member(Frozen):
    """One file in the bundle."""

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Artefact):
    """``bundle.json``: what the bundle is, and the size and hash of everything else in it."""

    KIND: ClassVar[str] = "bundle"
    VERSION: ClassVar[int] = 1

    kind: str = KIND
    schema_version: int = VERSION
    about: About
    configurations: Annotated[dict[str, tuple[str, ...]], Field(min_length=1)]
    """Folds by configuration."""
    example: Line
    """The command that predicts with it."""
    members: dict[str, Member]


def write_bundle(
    path: Path, about: About, plan: Plan, postprocessing: Postprocessing | None, weights: Iterable[tuple[str, str, dict[str, Tensor]]]
) -> Manifest:
    """Writes a bundle; a reader sees the old file or the new one, never a part.

    Args:
        path: The file.
        about: For people; the configurations that ``about.selection`` joins by ``+`` must be among the weights.
        plan: Configurations without weights are left out of the bundle.
        postprocessing: Done to predicted label maps by default.
        weights: Configuration, fold (``0``, ``all``) and the network's tensors; asked for one after the other, so that one fold's memory
            is enough.

    Raises:
        ArtefactError: Weights do not fit the plan, a name cannot be a part of a file's name, or the disk refuses.
    """
    configurations: dict[str, tuple[str, ...]] = {}
    members: dict[str, Member] = {}
    with atomic_path(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
            members[name] = Member(size=len(content), sha256=hashlib.sha256(content).hexdigest())

        for configuration, fold, state in weights:
            member = weights_member(configuration, fold)
            if not KNOWN.fullmatch(member) or member in members:
                raise ArtefactError(
                    f"{path}: cannot hold this model", found=member, expected="letters, digits, _ . + and -, each name once"
                )
            check_weights(state, plan, configuration, f"{configuration}, fold {fold}")
            add(member, safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}))
            configurations[configuration] = (*configurations.get(configuration, ()), fold)
            del state  # before the next one is made
        plan = plan.model_copy(update={"configurations": {key: plan.configurations[key] for key in configurations}})
        example = example_command(path.name)
        add(PLAN, plan.to_json().encode())
        if postprocessing is not None:
            add(POSTPROCESSING, postprocessing.to_json().encode())
        add(README, readme(about, example, plan, postprocessing).encode())
        manifest = Manifest(
            made_from={"plan": plan.digest()}, about=about, configurations=configurations, example=example, members=dict(members)
        )
        _check(path, manifest, plan, postprocessing)
        add(MANIFEST, manifest.to_json().encode())
    return manifest


def example_command(file: str) -> str:
    """What predicts with a bundle."""
    return f"autounet predict -m {shlex.quote(file) if file.isprintable() else 'FILE'} -i images/ -o labels/"


def weights_member(configuration: str, fold: str) -> str:
    """Where a fold's weights are in the zip."""
    return f"models/{configuration}/fold_{fold}/weights.safetensors"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose JSON has been read and checked; weights are read when they are asked for."""

    path: Path
    manifest: Manifest
    plan: Plan
    postprocessing: Postprocessing | None

    @classmethod
    def open(cls, path: Path) -> "Bundle":
        """Opens a bundle. Nothing in it is executed, nothing is unpacked to disk.

        Raises:
            UsageError: There is no such file.
            ArtefactError: It is no bundle, or one that is cut off, changed, or made to do harm; the message names the member.
        """
        if not path.is_file():
            raise UsageError(f"{path}: {'is no file' if path.exists() else 'no such file'}", expected="a bundle")
        sizes = list_members(path, KNOWN)
        if MANIFEST not in sizes:
            raise ArtefactError(
                f"{path}: is no bundle of autounet",
                found=f"no {MANIFEST} in it",
                remedy="make one with `autounet export`; a model of nnU-Net's becomes one with `autounet import`",
            )
        manifest = _parse(Manifest, path, MANIFEST, _json(path, MANIFEST, sizes))
        members = manifest.members
        if sizes.keys() - {MANIFEST} != members.keys():
            other = min((sizes.keys() - {MANIFEST}) ^ members.keys())
            where = "there but not in bundle.json" if other in sizes else "in bundle.json but not there"
            raise ArtefactError(f"{path}: member {shown(other)} is {where}", remedy=REMEDY)
        for name, member in members.items():
            if member.size != sizes[name]:
                raise ArtefactError(f"{path}: member '{name}' has another size", found=sizes[name], expected=member.size, remedy=REMEDY)
        if PLAN not in members:
            raise ArtefactError(f"{path}: is no bundle of autounet", found=f"no {PLAN} in it", remedy=REMEDY)
        for name in members.keys() & {README}:  # which people read before they do what it says
            _json(path, name, sizes, members[name].sha256)
        plan = _parse(Plan, path, PLAN, _json(path, PLAN, sizes, members[PLAN].sha256))
        postprocessing = None
        if POSTPROCESSING in members:
            postprocessing = _parse(
                Postprocessing, path, POSTPROCESSING, _json(path, POSTPROCESSING, sizes, members[POSTPROCESSING].sha256)
            )
        _check(path, manifest, plan, postprocessing)
        return cls(path, manifest, plan, postprocessing)

    def weights(self, configuration: str, fold: str) -> dict[str, Tensor]:
        """One fold's tensors on the CPU, float32; they are known to be those of the plan's network.

        Raises:
            ArtefactError: They are damaged, changed, or of another network.
        """
        name = weights_member(configuration, fold)
        member = self.manifest.members[name]
        content = read_member(self.path, name, member.size, member.sha256)
        try:
            state = safetensors.torch.load(content)
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise ArtefactError(f"{self.path}: member '{name}' holds no weights", found=shown(str(error)), remedy=REMEDY) from None
        check_weights(state, self.plan, configuration, f"{self.path}: member '{name}'")
        return state

    def choose(self, configuration: str | None, folds: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
        """The configurations to average, and the folds of each: the bundle's own choice and all its folds unless others are named.

        Args:
            configuration: One, or several joined by ``+``.
            folds: Of each.

        Raises:
            UsageError: The bundle does not have them.
        """
        there = self.manifest.configurations
        names = configurations_of(configuration or self.manifest.about.selection, there)
        unknown = [name for name in names if name not in there]
        if unknown:
            raise UsageError(f"-c {unknown[0]}: not in {self.path}", found=", ".join(there))
        return {name: self._folds(name, None if folds is None else tuple(folds)) for name in names}

    def _folds(self, name: str, folds: tuple[str, ...] | None) -> tuple[str, ...]:
        there = self.manifest.configurations[name]
        wanted = there if folds is None else folds
        missing = [fold for fold in wanted if fold not in there]
        if missing or not wanted:
            raise UsageError(f"fold {', '.join(missing) or 'none'} of {name}: not in {self.path}", found=in_words(there))
        return tuple(fold for fold in there if fold in wanted)


def _json(path: Path, name: str, sizes: dict[str, int], sha256: str | None = None) -> str:
    if sizes[name] > MOST_JSON_BYTES:
        raise ArtefactError(
            f"{path}: member '{name}' is too large", found=sizes[name], expected=f"at most {MOST_JSON_BYTES}", remedy=REMEDY
        )
    try:
        return read_member(path, name, sizes[name], sha256).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path}: member '{name}' is not text", found=error, remedy=REMEDY) from None


def _parse(kind: type[_Kind], path: Path, name: str, text: str) -> _Kind:
    """Checks JSON text; the remedy is another than for a run folder's file."""
    try:
        return kind.from_json(text, f"{path}: member '{name}'")
    except ArtefactError as error:
        found = None if error.found is None else shown(str(error.found))[1:-1]
        raise ArtefactError(error.what, found=found, expected=error.expected, remedy=REMEDY) from None


def _check(path: Path, manifest: Manifest, plan: Plan, postprocessing: Postprocessing | None) -> None:
    """Raises ArtefactError unless manifest, plan and postprocessing belong together and can be carried out."""
    fault = next(_faults_of_manifest(manifest, plan), None)
    if fault is not None:
        raise ArtefactError(f"{path}: member '{MANIFEST}' is refused", found=fault, remedy=REMEDY)
    fault = next(faults_of_plan(plan), None)
    if fault is not None:
        raise ArtefactError(f"{path}: member '{PLAN}' is refused", found=fault, remedy=REMEDY)
    if postprocessing is not None and (fault := fault_of_postprocessing(postprocessing, plan)) is not None:
        raise ArtefactError(f"{path}: member '{POSTPROCESSING}' is refused", found=fault, remedy=REMEDY)


def _faults_of_manifest(manifest: Manifest, plan: Plan) -> Iterator[str]:
    folds = manifest.configurations
    models = [weights_member(key, fold) for key, each in folds.items() for fold in each]
    if sorted(models) != sorted(name for name in manifest.members if name.startswith("models/")) or not all(folds.values()):
        yield "other configurations and folds than there are weights"
    if not set(configurations_of(manifest.about.selection, folds)) <= set(folds):
        yield f"a selection that is not there, {shown(manifest.about.selection)}"
    if plan.configurations.keys() != folds.keys():
        yield f"other configurations than in {PLAN}"
