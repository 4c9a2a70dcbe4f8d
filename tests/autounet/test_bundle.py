"""Bundles: what is written comes back; what anybody has cut off, changed or added is refused by name, and nothing of it is used."""

import hashlib
import json
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from autounet.bundle import Bundle, write_bundle
from autounet.bundle_text import About
from autounet.errors import ArtefactError, UsageError
from autounet.labels import LabelSpec, StructureClass
from autounet.networks.build import build_network
from autounet.plan import Configuration, LossSpec, NetworkSpec, Normalization, Plan, PlanRequest
from autounet.planners.presets import PRESETS
from autounet.postprocessing import KeepLargest, Postprocessing
from autounet.preset import NNUNET_OPTIMIZER

LABELS = LabelSpec(classes=(StructureClass(name="liver", values=(1,)), StructureClass(name="tumour", values=(5,))))
ABOUT = About(name="Livers", selection="3d_fullres", created="2026-11-24", origin="autounet 9", licence="CC BY 4.0", description="Of mice.")
STEPS = Postprocessing(made_from={}, steps=(KeepLargest(values=(1, 5)), KeepLargest(values=(5,))))
WEIGHTS = "models/3d_fullres/fold_0/weights.safetensors"


def configuration(name: str, previous: str | None = None) -> Configuration:
    network = NetworkSpec(
        kind="plain", ndim=3, in_channels=1 if previous is None else 3, outputs=3, features=(2, 3), strides=((1, 1, 1), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3)), blocks_encoder=(1, 1), blocks_decoder=(1,),
    )  # fmt: skip
    return Configuration(
        name=name, spacing_mm=(3.0, 1.0, 1.0), median_shape=(8.0, 8.0, 8.0), patch_size=(4, 8, 8), batch_size=2, batch_dice=False,
        normalization=(Normalization(scheme="zscore"),), network=network, mirror_axes=(0, 1, 2), previous_stage=previous, decisions=(),
    )  # fmt: skip


def make_plan(*configurations: Configuration) -> Plan:
    return Plan(
        made_from={}, dataset="Dataset001_Livers", request=PlanRequest(preset=PRESETS["nnunet"]), epochs=10, optimizer=NNUNET_OPTIMIZER,
        augmentation="nnunet", loss=LossSpec(), ndim=3, channels=("MRI",), labels=LABELS, file_ending=".nii.gz", transpose=(0, 1, 2),
        configurations={entry.name: entry for entry in configurations}, decisions=(),
    )  # fmt: skip


PLAN = make_plan(configuration("3d_fullres"), configuration("3d_lowres"), configuration("never_trained"))


def state(name: str, fold: str, plan: Plan = PLAN) -> dict[str, Tensor]:
    return build_network(plan.configurations[name].network, seed=sum((name + fold).encode())).state_dict()


def folds(*wanted: tuple[str, str], plan: Plan = PLAN) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    yield from ((name, fold, state(name, fold, plan)) for name, fold in wanted)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three folds."""
    path = tmp_path_factory.mktemp("bundle") / "livers.zip"
    write_bundle(path, ABOUT, PLAN, STEPS, folds(("3d_fullres", "0"), ("3d_fullres", "all"), ("3d_lowres", "1")))
    return path


def test_what_is_written_comes_back(whole: Path) -> None:
    bundle = Bundle.open(whole)
    assert bundle.manifest.about == ABOUT
    assert bundle.manifest.configurations == {"3d_fullres": ("0", "all"), "3d_lowres": ("1",)}
    assert bundle.manifest.example == "autounet predict -m livers.zip -i images/ -o labels/"
    assert bundle.plan == make_plan(configuration("3d_fullres"), configuration("3d_lowres"))  # without what has no weights
    assert bundle.postprocessing == STEPS
    for name, fold in (("3d_fullres", "0"), ("3d_fullres", "all"), ("3d_lowres", "1")):
        found, expected = bundle.weights(name, fold), state(name, fold)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_bundle_is_a_plain_zip_that_explains_itself(whole: Path) -> None:
    with zipfile.ZipFile(whole) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        text = archive.read("README.txt").decode()
    for words in ("Livers", "Of mice.", "autounet predict -m livers.zip", "0  MRI", "5  tumour", "Licence: CC BY 4.0", "autounet 9"):
        assert words in text
    assert "only the largest component of the whole foreground is kept\n  only the largest component of tumour is kept" in text


def test_the_same_content_is_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_bundle(tmp_path / name / "m.zip", ABOUT, PLAN, None, folds(("3d_fullres", "0")))
    assert (tmp_path / "one" / "m.zip").read_bytes() == (tmp_path / "two" / "m.zip").read_bytes()


def test_the_bundle_chooses_unless_others_are_named(whole: Path) -> None:
    bundle = Bundle.open(whole)
    assert bundle.choose(None, None) == {"3d_fullres": ("0", "all")}
    assert bundle.choose(None, ["all"]) == {"3d_fullres": ("all",)}
    assert bundle.choose("3d_lowres", None) == {"3d_lowres": ("1",)}
    with pytest.raises(UsageError, match=r"-c 2d: not in .*found 3d_fullres, 3d_lowres"):
        bundle.choose("2d", None)
    with pytest.raises(UsageError, match=r"fold 3 of 3d_lowres: not in .*found fold 1"):
        bundle.choose("3d_lowres", ["1", "3"])


def test_nothing_is_written_where_weights_do_not_fit(tmp_path: Path) -> None:
    wrong = {**state("3d_fullres", "0"), "surplus": torch.zeros(1)}
    nan = {name: torch.full_like(tensor, torch.nan) for name, tensor in state("3d_fullres", "0").items()}
    for weights, words in (
        ([("3d_fullres", "0", wrong)], "found a tensor 'surplus'"),
        ([("3d_fullres", "0", nan)], "NaN"),
        ([("../up", "0", {})], r"found models/\.\./up"),
        ([("2d", "0", {})], "2d, fold 0: not in the plan"),
        ([("3d_lowres", "0", state("3d_lowres", "0"))], "a selection that is not there"),
    ):
        with pytest.raises(ArtefactError, match=words):
            write_bundle(tmp_path / "m.zip", ABOUT, PLAN, None, weights)
    assert list(tmp_path.iterdir()) == []


# ---- files by people who mean harm, or that have come to harm


Content = dict[str, bytes]


def content_of(path: Path) -> Content:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, members: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in members:
            archive.writestr(name, content)
    return path


def sealed(content: Content) -> Content:
    """The members with a manifest in which sizes and hashes are right: whoever changes a bundle can do so much."""
    manifest = json.loads(content["bundle.json"])
    manifest["members"] = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items() if name != "bundle.json"
    }
    return {**content, "bundle.json": json.dumps(manifest).encode()}


def edited(data: bytes, *where: str, to: Any) -> bytes:
    whole = json.loads(data)
    inner = whole
    for key in where[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[where[-1]] = to
    return json.dumps(whole).encode()


def use(path: Path) -> None:
    """Opens a bundle and reads all of it."""
    bundle = Bundle.open(path)
    for name, each in bundle.manifest.configurations.items():
        for fold in each:
            bundle.weights(name, fold)


def refused(path: Path) -> str:
    """The message with which a bundle is refused."""
    with pytest.raises(ArtefactError) as caught:
        use(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    return message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.99, 0.9999])
def test_a_part_of_a_file_is_refused(whole: Path, tmp_path: Path, share: float) -> None:
    data = whole.read_bytes()
    path = tmp_path / "part.zip"
    path.write_bytes(data[: int(len(data) * share)])
    assert "is no zip, or a damaged one" in refused(path)


@pytest.mark.parametrize("member", ["plan.json", "postprocessing.json", "bundle.json", "README.txt", WEIGHTS])
def test_one_flipped_bit_is_found(whole: Path, tmp_path: Path, member: str) -> None:
    data = bytearray(whole.read_bytes())
    inside = content_of(whole)[member]
    position = data.index(inside) + len(inside) // 2
    data[position] ^= 1
    path = tmp_path / "flipped.zip"
    path.write_bytes(data)
    assert f"member '{member}'" in refused(path)


def test_a_changed_member_with_a_right_checksum_of_the_zip_is_found_by_its_hash(whole: Path, tmp_path: Path) -> None:
    for member in ("plan.json", WEIGHTS):
        content = content_of(whole)
        content[member] = content[member][:-2] + b" " + content[member][-1:]
        path = write_zip(tmp_path / "changed.zip", list(content.items()))
        assert f"member '{member}' is not what was written there: found sha256" in refused(path)


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("evil.pkl", "does not belong there: found 'evil.pkl'"),
        ("models/3d_fullres/fold_0/resume.pt", "does not belong there"),
        ("../plan.json", "does not belong there: found '../plan.json'"),
        ("models/../../plan.json", "does not belong there"),
        ("models/../fold_0/weights.safetensors", "does not belong there"),
        ("/etc/passwd", "does not belong there: found '/etc/passwd'"),
        ("C:\\plan.json", "does not belong there: found 'C:\\\\plan.json'"),
        ("models\\3d_fullres\\fold_0\\weights.safetensors", "does not belong there"),
        ("models/3d_fullres/", "is a link, a folder or a device"),
        ("\x1b[2Jplan.json", "found '\\x1b[2Jplan.json'"),
        ("plan.json\n", "does not belong there"),
        ("plan.json", "member 'plan.json' is there twice"),
        (link("models/3d_fullres/fold_7/weights.safetensors"), "is a link"),
        ("models/3d_fullres/fold_7/weights.safetensors", "fold_7/weights.safetensors' is there but not in bundle.json"),
    ],
)
def test_a_member_too_many_is_refused_by_name(whole: Path, tmp_path: Path, member: str | zipfile.ZipInfo, words: str) -> None:
    path = write_zip(tmp_path / "more.zip", [*content_of(whole).items(), (member, pickle.dumps(print))])
    assert words in refused(path)


@pytest.mark.parametrize("member", ["plan.json", "bundle.json", "README.txt", WEIGHTS])
def test_a_member_that_is_missing_is_named(whole: Path, tmp_path: Path, member: str) -> None:
    path = write_zip(tmp_path / "less.zip", [(name, data) for name, data in content_of(whole).items() if name != member])
    assert member in refused(path)


def test_packed_members_are_refused_unread(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content_of(whole).items():
            archive.writestr(name, bytes(50_000_000) if name == "plan.json" else data)
    assert "member 'models/3d_fullres/fold_0/weights.safetensors' is packed" in refused(path)


def test_members_that_lie_about_their_size_are_refused(whole: Path, tmp_path: Path) -> None:
    """The zip's directory says 4 GB; nothing of that size is ever made."""
    data = bytearray(whole.read_bytes())
    directory = struct.unpack("<I", data[-6:-2])[0]
    data[directory + 20 : directory + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    path = tmp_path / "lies.zip"
    path.write_bytes(data)
    assert "members lie upon each other" in refused(path)


def other_header(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Safetensors whose header says something else about the same tensors."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def first_tensor(header: dict[str, Any]) -> dict[str, Any]:
    return next(value for name, value in header.items() if name != "__metadata__")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: struct.pack("<Q", 2**62) + data[8:], "holds no weights"),
        (lambda data: b"", "holds no weights"),
        (lambda data: pickle.dumps({"weight": 1}), "holds no weights"),
        (lambda data: other_header(data, lambda header: first_tensor(header).update(shape=[2**40])), "holds no weights"),
        (lambda data: other_header(data, lambda header: first_tensor(header).update(data_offsets=[0, 2**50])), "holds no weights"),
        (lambda data: other_header(data, lambda header: first_tensor(header).update(dtype="I32")), "int32, expected"),
        (lambda data: other_header(data, lambda header: header.update({"\x1b[2J": header.pop(next(iter(header)))})), "weights do not fit"),
        (lambda data: safetensors.torch.save({"only": torch.zeros(3)}), "weights do not fit the plan's network: found"),
        (lambda data: safetensors.torch.save(wider(safetensors.torch.load(data))), "(9,) float32, expected (2,) float32"),
    ],
)
def test_weights_of_another_network_or_with_a_lying_header_are_refused(
    whole: Path, tmp_path: Path, change: Callable[[bytes], bytes], words: str
) -> None:
    content = content_of(whole)
    content[WEIGHTS] = change(content[WEIGHTS])
    message = refused(write_zip(tmp_path / "weights.zip", list(sealed(content).items())))
    assert words in message
    assert WEIGHTS in message


def wider(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    name = next(name for name, tensor in weights.items() if tensor.shape == (2,))
    return {**weights, name: torch.zeros(9)}


NETWORK = ("configurations", "3d_fullres", "network")


@pytest.mark.parametrize(
    ("where", "to", "words"),
    [
        ((*NETWORK, "features"), [90_000, 90_000], "parameters, more than"),
        ((*NETWORK, "features"), [2, 10**30], "features beyond 1 to"),
        ((*NETWORK, "features"), [2], "a network of 1 stages"),
        ((*NETWORK, "blocks_encoder"), [10**9, 1], "blocks beyond 1 to"),
        ((*NETWORK, "blocks_encoder"), [1, 1, 1], "3 blocks_encoder for 2 stages"),
        ((*NETWORK, "kernel_sizes"), [[2, 2, 2], [3, 3, 3]], "kernels of even size"),
        ((*NETWORK, "kernel_sizes"), [[3], [3]], "other than 3 axes"),
        ((*NETWORK, "strides"), [[1, 1, 1], [0, 2, 2]], "strides beyond 1 to"),
        ((*NETWORK, "strides"), [[2, 1, 1], [1, 2, 2]], "not at full resolution"),
        ((*NETWORK, "in_channels"), 2, "does not fit its channels and labels"),
        ((*NETWORK, "kind"), "os.system", "'plan.json': plan is malformed"),
        (("configurations", "3d_fullres", "patch_size"), [10**6, 10**6, 10**6], "a patch of"),
        (("configurations", "3d_fullres", "patch_size"), [4, 8, 7], "do not divide"),
        (("configurations", "3d_fullres", "patch_size"), [1, 2, 2], "a single voxel"),
        (("configurations", "3d_fullres", "patch_size"), [4, 8], "for a network of 3 axes"),
        (("configurations", "3d_fullres", "spacing_mm"), [1e-300, 1.0, 1.0], "a spacing of"),
        (("configurations", "3d_fullres", "normalization", "0", "std"), -1.0, "a normalisation that cannot be carried out"),
        (("configurations", "3d_fullres", "normalization", "0", "lower"), 5.0, "a normalisation that cannot be carried out"),
        (("configurations", "3d_fullres", "mirror_axes"), [3], "mirror axes"),
        (("configurations", "3d_fullres", "mirror_axes"), [0] * 40, "mirror axes"),
        (("configurations", "3d_fullres", "previous_stage"), "3d_fullres", "no first stage"),
        (("configurations", "3d_fullres", "previous_stage"), "etc", "needs 'etc'"),
        (("configurations", "3d_fullres", "previous_stage"), "/etc", "plan is malformed at 'configurations"),
        (("configurations", "3d_fullres", "name"), "3d_lowres", "under another name"),
        (("configurations", "3d_fullres", "normalization"), [], "does not fit its channels"),
        (("transpose",), [0, 0, 1], "axes in the order"),
        (("dataset",), "\x1b[2J", "names that cannot be shown"),
        (("surplus",), 1, "'plan.json': plan is malformed at 'surplus'"),
        (("schema_version",), 99, "plan of another version"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_before_anything_is_built(
    whole: Path, tmp_path: Path, where: tuple[str, ...], to: Any, words: str
) -> None:
    content = content_of(whole)
    content["plan.json"] = edited(content["plan.json"], *where, to=to)
    message = refused(write_zip(tmp_path / "plan.zip", list(sealed(content).items())))
    assert words in message
    assert "'plan.json'" in message
    assert "autounet plan" not in message  # which would not help


@pytest.mark.parametrize(
    ("where", "to", "words"),
    [
        (("configurations",), {"3d_fullres": ["0"]}, "other configurations and folds than there are weights"),
        (("configurations",), {"3d_fullres": ["0", "all"], "3d_lowres": ["1", "../../x"]}, "other configurations and folds"),
        (("about", "selection"), "2d", "a selection that is not there"),
        (("about", "name"), "\x1b]0;gone\x07", "malformed at 'about.name'"),
        (("members", "plan.json", "size"), 3, "member 'plan.json' has another size"),
        (("members", "plan.json", "sha256"), "0" * 64, "member 'plan.json' is not what was written there"),
        (("members", "evil.pkl"), {"size": 3, "sha256": "0" * 64}, "member 'evil.pkl' is in bundle.json but not there"),
        (("kind",), "plan", "is not a bundle"),
        (("schema_version",), 7, "bundle of another version"),
    ],
)
def test_an_edited_manifest_is_refused(whole: Path, tmp_path: Path, where: tuple[str, ...], to: Any, words: str) -> None:
    content = content_of(whole)
    content["bundle.json"] = edited(content["bundle.json"], *where, to=to)
    assert words in refused(write_zip(tmp_path / "manifest.zip", list(content.items())))


@pytest.mark.parametrize("text", [b"", b"[" * 100_000, b"\xff\xfe", b"null", b'{"kind": "bundle"}', b" " * (2**24 + 1)])
def test_a_manifest_that_is_none_is_refused(whole: Path, tmp_path: Path, text: bytes) -> None:
    content = {**content_of(whole), "bundle.json": text}
    assert "'bundle.json'" in refused(write_zip(tmp_path / "manifest.zip", list(content.items())))


def test_postprocessing_of_labels_that_are_not_there_is_refused(whole: Path, tmp_path: Path) -> None:
    content = content_of(whole)
    content["postprocessing.json"] = edited(content["postprocessing.json"], "steps", to=[{"values": [2]}])
    message = refused(write_zip(tmp_path / "steps.zip", list(sealed(content).items())))
    assert "label values that the plan does not have: [2]" in message
    content["postprocessing.json"] = edited(content["postprocessing.json"], "steps", to=[{"values": [1]}] * 10_001)
    assert "10001 steps" in refused(write_zip(tmp_path / "steps.zip", list(sealed(content).items())))


def test_other_files_are_told_from_bundles(tmp_path: Path) -> None:
    text = tmp_path / "model.zip"
    text.write_text("hello")
    assert "is no zip" in refused(text)
    assert "is no bundle of autounet: found no bundle.json in it" in refused(write_zip(tmp_path / "empty.zip", []))
    with pytest.raises(UsageError, match="no such file"):
        Bundle.open(tmp_path / "nothing.zip")
    with pytest.raises(UsageError, match="is no file"):
        Bundle.open(tmp_path)
