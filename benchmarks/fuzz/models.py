"""Targets: files that hold models: bundles, weights, training states, prepared arrays, nnU-Net's checkpoints, zips and pickles."""

import hashlib
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import blosc2
import numpy as np
import torch

from autounet.bundle import Bundle, write_bundle
from autounet.bundle_text import About
from autounet.checkpoint import load_state, load_weights, read_about, save_state, save_weights
from autounet.inference.average import read_probabilities
from autounet.inference.bundled import load_bundle
from autounet.interop.nnunet_model import read_nnunet_model
from autounet.interop.nnunet_postprocessing import read_nnunet_postprocessing
from autounet.networks.build import build_network
from autounet.postprocessing import KeepLargest, Postprocessing
from autounet.preprocessing.store import StoredArray
from autounet.runtime import Runtime
from benchmarks.fuzz.documents import LABELS, nnunet_plans_json, small_plan
from benchmarks.fuzz.mutate import NUMBERS, Mutate, either, of_bytes, of_json, of_zip, packed
from benchmarks.fuzz.target import Target

RUNTIME = Runtime(device="cpu", precision="fp32", workers=0)
PLAN = small_plan("3d_fullres")
WEIGHTS = "models/3d_fullres/fold_0/weights.safetensors"


def _state() -> dict[str, torch.Tensor]:
    return build_network(PLAN.configurations["3d_fullres"].network, seed=0).state_dict()


# Weights ------------------------------------------------------------------------------------------------------------------------


def of_safetensors(data: bytes, random: Random) -> bytes:
    """The JSON header is changed and its length corrected, or not."""
    length = int.from_bytes(data[:8], "little")
    head, rest = data[8 : 8 + length], data[8 + length :]
    changed = of_json(head, random)
    claimed = len(changed) if random.random() < 0.9 else int(random.choice(NUMBERS)) % 2**64
    return claimed.to_bytes(8, "little") + changed + (rest if random.random() < 0.8 else of_bytes(rest, random))


def _weights(folder: Path) -> dict[str, bytes]:
    path = folder / "seed.safetensors"
    save_weights(path, {"a": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}, {"plan": "x", "epoch": "3"})
    return {"two": path.read_bytes()}


def _read_weights(data: bytes, folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    about = read_about(path)
    tensors, same = load_weights(path)
    assert about == same
    assert sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= len(data)


# Bundles ------------------------------------------------------------------------------------------------------------------------


def _bundles(folder: Path) -> dict[str, bytes]:
    about = About(name="Livers", selection="3d_fullres", created="2026-11-24", origin="autounet", licence="CC0")
    path = folder / "seed.zip"
    write_bundle(path, about, PLAN, Postprocessing(made_from={}, steps=(KeepLargest(values=(1, 5)),)), [("3d_fullres", "0", _state())])
    return {"whole": path.read_bytes()}


def _sealed(content: dict[str, bytes]) -> dict[str, bytes]:
    """The members with a manifest in which sizes and hashes are right: whoever changes a bundle can do so much."""
    try:
        manifest = json.loads(content["bundle.json"])
        manifest["members"] = {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in content.items() if name != "bundle.json"
        }
        return {**content, "bundle.json": json.dumps(manifest).encode()}
    except (KeyError, TypeError, ValueError, RecursionError):
        return content


def _of_member(name: str) -> Mutate:
    return of_json if name.endswith(".json") else of_safetensors if name.endswith(".safetensors") else of_bytes


def _open_bundle(data: bytes, folder: Path) -> None:
    """What ``predict -m`` does before it looks at an image, and one patch through the network."""
    path = folder / "model.zip"
    path.write_bytes(data)
    bundle = Bundle.open(path)
    for name, folds in bundle.choose(None, None).items():
        model = load_bundle(bundle, RUNTIME, name, folds, postprocess=True)
        network = model.stages[-1].configuration
        if np.prod(network.patch_size) < 10**4 and network.network.in_channels < 4:
            model.stages[-1].forward(torch.zeros(1, network.network.in_channels, *network.patch_size))


# Training states ----------------------------------------------------------------------------------------------------------------

DANGEROUS = (
    b"cposix\nsystem\n(S'true'\ntR.",
    b"cos\nsystem\n(S'true'\ntR.",
    b"c__builtin__\neval\n(S'1+1'\ntR.",
    b"cbuiltins\nexec\n(S'x=1'\ntR.",
    b"csubprocess\nPopen\n(S'true'\ntR.",
    b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
    b"ctorch\nload\n(S'/etc/passwd'\ntR.",
    b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNNtR.",
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    b"cbuiltins\nbytearray\n(I1000000000000\ntR.",
    b"ccollections\nOrderedDict\n)R.",
    b"c_codecs\nencode\n(V\xe9\nVlatin1\ntR.",
)


def of_pickle(data: bytes, random: Random) -> bytes:
    """Names and numbers in a pickle are changed; instructions are put in; or it becomes one that would run something."""
    match random.randrange(6):
        case 0:
            return random.choice(DANGEROUS)
        case 1:
            at = data.find(b"\x93") if b"\x93" in data else random.randrange(len(data) + 1)
            payload = random.choice(DANGEROUS)
            return data[:at] + payload[: -1 if random.random() < 0.8 else None] + data[at:]
        case 2:
            for old, new in (
                (b"storage", b"storagX"),
                (b"FloatStorage", random.choice((b"IntStorage\0\0", b"BoolStorage\0", b"HalfStorage\0"))),
            ):
                if old in data and random.random() < 0.5:
                    return data.replace(old, new.rstrip(b"\0") if len(new) != len(old) else new)
            return of_bytes(data, random)
        case 3:
            at = random.randrange(len(data) + 1)
            codes = (
                b"(",
                b")",
                b"0",
                b"2",
                b"K\xff",
                b"J\xff\xff\xff\x7f",
                b"M\xff\xff",
                b"N",
                b"}",
                b"]",
                b"\x85",
                b"\x86",
                b"\x87",
                b"R",
                b"b",
                b"\x81",
                b"Q",
                b"s",
                b"u",
                b"e",
                b"h\0",
                b"q\xff",
                b"r\xff\xff\xff\xff",
                b"\x96\xff\xff\xff\xff\xff\0\0\0",
                b"\x8a\xff",
            )
            return data[:at] + b"".join(random.choices(codes, k=random.choice((1, 2, 5)))) + data[at:]
        case _:
            return of_bytes(data, random)


def _of_torch_member(name: str) -> Mutate:
    return of_pickle if name.endswith("data.pkl") else of_bytes


OF_TORCH = of_zip(_of_torch_member)


def _states(folder: Path) -> dict[str, bytes]:
    path = folder / "seed.pt"
    moments = {"state": {0: {"momentum_buffer": torch.ones(3, 2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    state = {"network": {"weight": torch.ones(3, 2), "bias": torch.zeros(3, dtype=torch.bfloat16)}, "optimizer": moments}
    save_state(path, {**state, "about": {"plan": "x"}, "steps": 3, "history": [{"a": 1.0}]})
    return {"state": path.read_bytes()}


def _read_state(data: bytes, folder: Path) -> None:
    path = folder / "resume.pt"
    path.write_bytes(data)
    _only_plain(load_state(path))


def _only_plain(value: Any, depth: int = 0) -> None:
    """Tensors and plain values, and nothing that has methods of its own."""
    assert depth < 2000
    if isinstance(value, dict):
        for key, entry in value.items():
            _only_plain(key, depth + 1)
            _only_plain(entry, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for entry in value:
            _only_plain(entry, depth + 1)
    else:
        kinds = (torch.Tensor, torch.dtype, torch.Size, torch.device, int, float, complex, str, bytes, bytearray, type(None))
        harmless = type(value).__module__.partition(".")[0] in ("torch", "collections")
        assert isinstance(value, kinds) or harmless, f"a {type(value)}"


# Prepared arrays ----------------------------------------------------------------------------------------------------------------


def _arrays(folder: Path) -> dict[str, bytes]:
    found = {}
    for name, array in (("image", np.ones((1, 4, 5, 6), np.float32)), ("labels", np.ones((4, 5, 6), np.uint8))):
        packed_array = blosc2.asarray(array, cparams={"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1})
        packed_array.schunk.vlmeta["foreground"] = bytes(blosc2.compress2(np.zeros((3, 4), "<i4"), typesize=4))
        found[name] = bytes(packed_array.to_cframe())
    return found


def _read_array(data: bytes, folder: Path) -> None:
    path = folder / "case.b2nd"
    path.write_bytes(data)
    array = StoredArray.open(path)
    if array.path.suffix and len(array.shape) in (3, 4) and np.prod(array.shape, dtype=object) < 10**6:
        array[(0,) * (len(array.shape) - 3)]
    array.foreground((2, 2))


# nnU-Net ------------------------------------------------------------------------------------------------------------------------


def _checkpoint() -> bytes:
    names = {"encoder.stages.0.0.": "encoder.stages.0.0.convs.0."}
    weights = {
        next((new + name[len(old) :] for old, new in names.items() if name.startswith(old)), name): value
        for name, value in _state().items()
    }
    stream = io.BytesIO()
    numpy_number = np.float64(0.5)
    torch.save(
        {
            "network_weights": weights,
            "init_args": {"configuration": "3d_fullres"},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1),
            "logging": {"mean_fg_dice": [numpy_number]},
        },
        stream,
    )
    return stream.getvalue()


ABOUT = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 2, "file_ending": ".nii.gz"}
FOLDER = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def _steps() -> bytes:
    """As nnU-Net pickles it, by hand: its function is named, and there is no such module here."""
    function = b"cnnunetv2.postprocessing.remove_connected_components\nremove_all_but_largest_component_from_segmentation\n"
    return b"\x80\x02]" + function + b"a]}(X\x11\x00\x00\x00labels_or_regionsK\x01ua\x86."


def _model_members() -> dict[str, bytes]:
    return {
        f"Dataset001/{FOLDER}/plans.json": json.dumps(nnunet_plans_json()).encode(),
        f"Dataset001/{FOLDER}/dataset.json": json.dumps(ABOUT).encode(),
        f"Dataset001/{FOLDER}/fold_0/checkpoint_final.pth": _checkpoint(),
        f"Dataset001/{FOLDER}/crossval_results_folds_0/postprocessing.pkl": _steps(),
    }


def _of_nnunet_member(name: str) -> Mutate:
    return of_json if name.endswith(".json") else OF_TORCH if name.endswith(".pth") else of_pickle


def _import(data: bytes, folder: Path) -> None:
    path = folder / "model.zip"
    path.write_bytes(data)
    read_nnunet_model(path)


def _read_steps(data: bytes, folder: Path) -> None:
    path = folder / "postprocessing.pkl"
    path.write_bytes(data)
    read_nnunet_postprocessing(path)


# Probabilities ------------------------------------------------------------------------------------------------------------------


def _probabilities(folder: Path) -> dict[str, bytes]:
    stream = io.BytesIO()
    np.savez_compressed(stream, probabilities=np.full((3, 2, 2, 2), 1 / 3, np.float32))
    pickled = io.BytesIO()
    np.savez(pickled, probabilities=np.array([{"a": 1}], dtype=object))
    return {"sound": stream.getvalue(), "objects": pickled.getvalue()}


def _of_npy(data: bytes, random: Random) -> bytes:
    """The shape or type in an array's header."""
    words = (
        b"(3, 2, 2, 2)",
        b"(3, 99999999, 99999, 9999)",
        b"(3, -1, 2, 2)",
        b"()",
        b"'<f4'",
        b"'|O'",
        b"'<f8'",
        b"[('a', '<f4')]",
        b"'|V999999999'",
    )
    old = random.choice((b"(3, 2, 2, 2)", b"'<f4'"))
    return data.replace(old, random.choice(words)) if random.random() < 0.7 else of_bytes(data, random)


def _read_probabilities(data: bytes, folder: Path) -> None:
    path = folder / "case.npz"
    path.write_bytes(data)
    assert read_probabilities(path, LABELS).nbytes < 2**26


TARGETS = (
    Target("weights", "safetensors: headers that lie", _weights, _read_weights, either(of_safetensors, of_safetensors, of_bytes)),
    Target("bundle", "bundles, with right hashes: plan, manifest, weights, zip", _bundles, _open_bundle, of_zip(_of_member, _sealed)),
    Target("resume", "training states: pickles that would run code", _states, _read_state, OF_TORCH),
    Target("store", "prepared arrays (blosc2)", _arrays, _read_array),
    Target(
        "nnunet_model",
        "nnU-Net's zips: checkpoints, plans, postprocessing",
        lambda _: {"zip": packed(_model_members(), Random(0))},
        _import,
        of_zip(_of_nnunet_member),
    ),
    Target("nnunet_pickle", "nnU-Net's postprocessing.pkl", lambda _: {"steps": _steps()}, _read_steps, of_pickle),
    Target("probabilities", ".npz of probabilities", _probabilities, _read_probabilities, either(of_zip(lambda _: _of_npy), of_bytes)),
)
