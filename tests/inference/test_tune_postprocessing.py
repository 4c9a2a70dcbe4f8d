"""Postprocessing is learnt on held-out cases, and only where it helps."""

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from autounet.inference.tune_postprocessing import SMALL_SHARES, Tuned, tune_postprocessing
from autounet.labels import LabelSpec, StructureClass
from autounet.postprocessing import FillHoles, KeepLargest, RemoveSmall
from autounet.runtime import Runtime

ONE = LabelSpec(classes=(StructureClass(name="one", values=(1,)),))
TWO = LabelSpec(classes=(StructureClass(name="one", values=(1,)), StructureClass(name="two", values=(2,))))
Map = npt.NDArray[np.uint8]


def truth() -> Map:
    """Two blocks side by side, far from the edges."""
    values = np.zeros((20, 20, 20), np.uint8)
    values[5:12, 5:12, 5:10] = 1
    values[5:12, 5:12, 10:15] = 2
    return values


def tuned(folder: Path, pairs: list[tuple[Map, Map]], labels: LabelSpec, annotated: dict[str, list[str]] | None = None) -> Tuned:
    """What is found for predictions and their truths."""
    files = {}
    for number, pair in enumerate(pairs):
        paths = folder / f"p{number}.nii.gz", folder / f"t{number}.nii.gz"
        for path, values in zip(paths, pair, strict=True):
            nibabel.save(nibabel.Nifti1Image(values.T, np.diag([1.0, 1.0, 2.0, 1.0])), path)  # type: ignore[attr-defined]
        files[f"c{number}"] = paths
    return tune_postprocessing(files, labels, Runtime(workers=0), annotated or {})


def test_nothing_is_done_to_what_is_right(tmp_path: Path) -> None:
    found = tuned(tmp_path, [(truth(), truth())], TWO)
    assert found.steps == ()
    assert found.before.mean.dice == found.after.mean.dice == 1
    assert len(found.decisions) == 1 + 2 + 2 * (len(SMALL_SHARES) + 1)  # all foreground, each class, sizes and holes of each


def test_a_stray_piece_is_removed_as_nnunet_does(tmp_path: Path) -> None:
    """Of all foreground first; with it nothing is left for the classes to gain."""
    prediction = truth()
    prediction[17:19, 17:19, 17:19] = 2
    found = tuned(tmp_path, [(prediction, truth()), (truth(), truth())], TWO)
    assert found.steps == (KeepLargest(values=(1, 2)),)
    assert found.after.mean.dice == 1
    first = found.decisions[0]
    assert (first.kept, first.worse) == (True, ())
    assert first.mean_before == pytest.approx((1 + (1 + 2 * 245 / (2 * 245 + 8)) / 2) / 2)


def test_a_step_that_harms_another_class_is_not_taken(tmp_path: Path) -> None:
    """Class one really is in two pieces in one case; only of class two the largest piece alone is right."""
    two_pieces, prediction = truth(), truth()
    two_pieces[1:3, 1:3, 1:3] = 1
    prediction[17:19, 17:19, 17:19] = 2
    found = tuned(tmp_path, [(two_pieces, two_pieces), (prediction, truth())], TWO)
    assert found.steps == (KeepLargest(values=(2,)),)
    assert found.decisions[0].worse == ("one",)


def test_many_true_pieces_and_small_wrong_ones(tmp_path: Path) -> None:
    """Lesions: the largest alone would be wrong, below a size of 10 % of the typical volume (here 144 mm³) all are false."""
    lesions = np.zeros((20, 20, 20), np.uint8)
    lesions[2:6, 2:6, 2:6] = lesions[12:14, 12:14, 12:14] = 1  # 128 and 16 mm³
    prediction = lesions.copy()
    prediction[17, 17, 17] = prediction[1, 17, 1:4] = 1  # 2 and 6 mm³
    found = tuned(tmp_path, [(prediction, lesions)], ONE)
    assert found.steps == (RemoveSmall(kind="remove_small", values=(1,), below_mm=14.0),)
    assert found.after.mean.dice == 1
    assert [decision.kept for decision in found.decisions if isinstance(decision.step, RemoveSmall)] == [False, False, False, False, True]


def test_holes_are_filled_where_the_truth_has_none(tmp_path: Path) -> None:
    prediction = truth()
    prediction[8, 8, 7] = 0
    found = tuned(tmp_path, [(prediction, truth())], TWO)
    assert found.steps == (FillHoles(kind="fill_holes", values=(1,)),)
    ring = truth()
    ring[8, 8, 7] = 0
    assert tuned(tmp_path, [(ring, ring)], TWO).steps == ()


def test_a_region_is_filled_with_the_value_that_paints_it(tmp_path: Path) -> None:
    whole, core = StructureClass(name="whole", values=(1, 2)), StructureClass(name="core", values=(1,))
    regions = LabelSpec(classes=(whole, core), overlapping=True, paint_order=(2, 1))
    true = np.zeros((20, 20, 20), np.uint8)
    true[5:15, 5:15, 5:15] = 2
    true[6:9, 6:9, 6:9] = 1
    prediction = true.copy()
    prediction[12, 12, 12] = 0
    found = tuned(tmp_path, [(prediction, true)], regions)
    assert found.steps == (FillHoles(kind="fill_holes", values=(2, 1)),)
    assert found.after.mean.dice == 1


def test_classes_that_are_not_annotated_do_not_count(tmp_path: Path) -> None:
    """The stray piece of class two may be right: nobody has looked for it."""
    prediction, unknown = truth(), truth()
    prediction[17:19, 17:19, 17:19] = 2
    unknown[unknown == 2] = 0
    found = tuned(tmp_path, [(prediction, unknown)], TWO, {"c0": ["one"]})
    assert found.steps == ()
    assert found.after.cases["c0"]["two"].dice is None


@pytest.mark.parametrize("empty", ["prediction", "both"])
def test_empty_label_maps(tmp_path: Path, empty: str) -> None:
    nothing = np.zeros((20, 20, 20), np.uint8)
    found = tuned(tmp_path, [(nothing, nothing if empty == "both" else truth())], TWO)
    assert found.steps == ()
    assert found.after.mean.dice == (None if empty == "both" else 0)
