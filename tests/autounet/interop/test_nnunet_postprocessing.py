"""postprocessing.pkl: the steps are understood, and nothing in the file is ever called."""

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from autounet.errors import ArtefactError
from autounet.interop.nnunet_model import read_nnunet_model
from autounet.interop.nnunet_postprocessing import KEEP_LARGEST, read_nnunet_postprocessing
from autounet.postprocessing import KeepLargest
from tests.autounet.interop.conftest import Make

REAL = (
    b"\x80\x04\x95\xf6\x00\x00\x00\x00\x00\x00\x00]\x94\x8c3nnunetv2.postprocessing.remove_connected_components\x94\x8c2remove_all_but_"
    b"largest_component_from_segmentation\x94\x93\x94a]\x94}\x94\x8c\x11labels_or_regions\x94\x8c\x16numpy._core.multiarray\x94\x8c\x06"
    b"scalar\x94\x93\x94\x8c\x05numpy\x94\x8c\x05dtype\x94\x93\x94\x8c\x02i8\x94\x89\x88\x87\x94R\x94(K\x03\x8c\x01<\x94NNNJ\xff\xff\xff"
    b"\xffJ\xff\xff\xff\xffK\x00t\x94bC\x08\x01\x00\x00\x00\x00\x00\x00\x00\x94\x86\x94R\x94sa\x86\x94."
)
"""Written by nnU-Net 2.8.1: the largest component of label 1."""


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Something that pickles like nnU-Net's function, and must not be called."""

    def remove_all_but_largest_component_from_segmentation(*_: Any, **__: Any) -> None:
        raise AssertionError

    module = ModuleType("nnunetv2.postprocessing.remove_connected_components")
    remove_all_but_largest_component_from_segmentation.__module__ = module.__name__
    remove_all_but_largest_component_from_segmentation.__qualname__ = KEEP_LARGEST
    monkeypatch.setattr(module, KEEP_LARGEST, remove_all_but_largest_component_from_segmentation, raising=False)
    for name in ("nnunetv2", "nnunetv2.postprocessing", module.__name__):
        monkeypatch.setitem(sys.modules, name, module if name == module.__name__ else ModuleType(name))
    return remove_all_but_largest_component_from_segmentation


def written(path: Path, content: Any, protocol: int | None = None) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


def test_a_file_of_nnunets(tmp_path: Path) -> None:
    assert read_nnunet_postprocessing(written(tmp_path / "pp.pkl", REAL)) == (KeepLargest(values=(1,)),)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_labels_regions_and_lists_of_both(tmp_path: Path, function: Any, protocol: int) -> None:
    wanted = [[1, 2, (3, 4)], (2, 3), np.int64(300), np.uint8(200), 7]
    file = written(tmp_path / "pp.pkl", ([function] * 5, [{"labels_or_regions": entry} for entry in wanted]), protocol)
    assert [step.values for step in read_nnunet_postprocessing(file)] == [(1, 2, 3, 4), (2, 3), (300,), (200,), (7,)]


class Harmful:
    """Unpickling it would make a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_unknown_functions_are_refused_by_name_and_do_not_run(tmp_path: Path) -> None:
    file = written(tmp_path / "pp.pkl", ([Harmful(tmp_path / "ran")], [{}]))
    with pytest.raises(ArtefactError, match=r"pp\.pkl: .*the name (posix|nt)\.mkdir"):
        read_nnunet_postprocessing(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        REAL[:-40],
        b"\x80\x04\x96" + (2**62).to_bytes(8, "little") + b".",  # a bytearray of 4 EB
        b"\x80\x04Nr\xff\xff\xff\x7f.",  # a memo of 2**31 entries
        b"\x80\x04" + b"(" * 100_000,
        bytes(2**20 + 1),
        pickle.dumps([1, 2, 3]),
        pickle.dumps(([], [{}])),
        pickle.dumps((["text"], [{"labels_or_regions": 1}])),
        REAL.replace(b"\x02i8", b"\x02f8"),
        REAL.replace(b"C\x08\x01", b"C\x08\x00"),  # background
        REAL.replace(b"labels_or_regions", b"labels_of_regions"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ArtefactError, match=r"pp\.pkl"):
        read_nnunet_postprocessing(written(tmp_path / "pp.pkl", content))


def test_a_model_takes_the_steps_that_were_chosen_with_its_folds(make: Make, function: Any) -> None:
    folder = make(folds=("0", "1"))
    for name, label in (("crossval_results_folds_0_1", 1), ("crossval_results_folds_0_1_2_3_4", 2)):
        (folder / name).mkdir()
        written(folder / name / "postprocessing.pkl", ([function], [{"labels_or_regions": label}]))
    both, one = read_nnunet_model(folder), read_nnunet_model(folder, folds=("0",))
    assert both.postprocessing is not None
    assert (both.postprocessing.steps, both.notes) == ((KeepLargest(values=(1,)),), ())
    assert one.postprocessing is not None
    assert one.postprocessing.steps == (KeepLargest(values=(2,)),)
    assert "chosen with other folds" in one.notes[0]


def test_a_model_goes_on_without_steps_that_cannot_be_expressed_and_says_so(make: Make, tmp_path: Path) -> None:
    folder = make()
    (folder / "crossval_results_folds_0").mkdir()
    written(folder / "crossval_results_folds_0" / "postprocessing.pkl", ([Harmful(tmp_path / "ran")], [{}]))
    model = read_nnunet_model(folder)
    assert model.postprocessing is None
    assert ".mkdir" in model.notes[0]
    assert "postprocessing.pkl was left out" in model.notes[0]
    assert not (tmp_path / "ran").exists()
