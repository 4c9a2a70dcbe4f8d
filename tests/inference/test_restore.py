"""Scores back to label maps: the same labels as resampling every class at full size, without doing so."""

import json
import math
import warnings
from collections.abc import Callable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import resize

from autounet.errors import ArtefactError, ImageError
from autounet.geometry import Box, Grid, Trace, Triple, TripleMm
from autounet.inference import restore
from autounet.inference.accumulate import Band
from autounet.inference.boundary import winners
from autounet.inference.probabilities import ProbabilityGrid
from autounet.inference.restore import LabelRestorer, paint, restore_labels
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import Configuration, Plan
from autounet.preprocessing.case import prepare_case, target_spacing
from autounet.preprocessing.spacing import separate_axis

PREPARED = Path(__file__).parents[1] / "golden" / "nnunet_preprocessing.json"

LABELS = LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in (1, 2, 3)))
GAPS = LabelSpec(classes=tuple(StructureClass(name=f"c{value}", values=(value,)) for value in (2, 7, 300)))
REGIONS = LabelSpec(
    classes=(
        StructureClass(name="whole", values=(1, 2, 3)),
        StructureClass(name="core", values=(2, 3)),
        StructureClass(name="middle", values=(3,)),
    ),
    overlapping=True,
    paint_order=(1, 2, 300),
)

MakePlan = Callable[..., tuple[Plan, Configuration]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_scores_that_are_no_numbers_are_no_label_map(wrong: float, dtype: torch.dtype) -> None:
    """A label map of half the truth would look like any other."""
    shape = (4, 5, 6)
    trace = Trace(
        grid=Grid(shape_zyx=shape, spacing_mm_zyx=(1.0,) * 3),
        transpose=(0, 1, 2),
        box=Box(start=(0, 0, 0), stop=shape),
        prepared_shape=shape,
    )
    scores = torch.full((4, *shape), 60000.0, dtype=dtype)  # whose sum is beyond float16's range
    assert not restore_labels(scores, trace, (1.0,) * 3, LABELS).any()
    scores[3, 1, 2, 3] = wrong
    with pytest.raises(ImageError, match=r"NaN or infinite\. Predict with --precision fp32"):
        restore_labels(scores, trace, (1.0,) * 3, LABELS)


def wave(shape: Sequence[int], phase: float) -> npt.NDArray[np.float64]:
    """As in benchmarks/golden."""
    index = np.arange(math.prod(shape), dtype=np.float64)
    return np.sin(0.7 * index + phase + 0.001 * index**2).reshape(shape)


def trace_of(
    shape: Triple, prepared: Triple, spacing: TripleMm = (1.0, 1.0, 1.0), box: Box | None = None, transpose: Triple = (0, 1, 2)
) -> Trace:
    """``shape`` and ``spacing`` of the image as it was read; the crop is the whole image unless a box is given."""
    return Trace(
        grid=Grid(shape_zyx=shape, spacing_mm_zyx=spacing),
        transpose=transpose,
        box=box or Box(start=(0, 0, 0), stop=shape),
        prepared_shape=prepared,
    )


def smooth_scores(outputs: int, shape: Sequence[int], seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((outputs, *shape)).astype(np.float32) * 5


def full_size(scores: npt.NDArray[np.float32], shape: Triple, separate: int | None) -> npt.NDArray[np.float64]:
    """Every class resampled by scikit-image in float64, slices of a thick axis one by one and nearest across them."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for channel in scores.astype(np.float64):
            if separate is None:
                found.append(resize(channel, shape, 1, mode="edge", anti_aliasing=False))
                continue
            planar = [size for axis, size in enumerate(shape) if axis != separate]
            slices = [resize(part, planar, 1, mode="edge", anti_aliasing=False) for part in np.moveaxis(channel, separate, 0)]
            stacked = np.stack(slices, axis=separate)
            rows = [(n / m) * (np.arange(m) + 0.5) - 0.5 for n, m in zip(stacked.shape, shape, strict=True)]
            found.append(map_coordinates(stacked, np.meshgrid(*rows, indexing="ij"), order=0, mode="nearest"))
    return np.stack(found)


@pytest.mark.parametrize(
    ("size_in", "size_out", "spacing", "target"),
    [
        ((6, 7, 8), (11, 9, 15), (1.0, 1.0, 1.0), (1.8, 1.3, 1.9)),
        ((11, 9, 15), (6, 7, 8), (1.8, 1.3, 1.9), (1.0, 1.0, 1.0)),
        ((5, 8, 9), (7, 12, 11), (5.0, 1.0, 1.0), (7.0, 1.5, 1.2)),
        ((6, 5, 7), (9, 3, 10), (1.0, 6.0, 1.0), (1.5, 4.0, 1.4)),
        ((6, 8, 4), (7, 9, 6), (1.0, 1.0, 8.0), (1.2, 1.1, 12.0)),
        ((6, 8, 4), (6, 8, 6), (1.0, 1.0, 8.0), (1.0, 1.0, 12.0)),
        ((1, 9, 10), (1, 17, 14), (1.0, 1.0, 1.0), (1.0, 1.9, 1.4)),
        ((6, 7, 8), (6, 7, 8), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ],
)
@pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])
def test_same_as_resampling_every_class(size_in: Triple, size_out: Triple, spacing: TripleMm, target: TripleMm, labels: LabelSpec) -> None:
    """Ties aside: float32 and float64 may decide them differently."""
    scores = smooth_scores(labels.outputs, size_in, 0)
    found = restore_labels(torch.from_numpy(scores), trace_of(size_out, size_in, spacing), target, labels)
    whole = full_size(scores, size_out, separate_axis(target, spacing))
    if labels.overlapping:
        expected = np.zeros(size_out, int)
        for channel, value in zip(whole, labels.paint_order, strict=True):
            expected[channel > 0] = value
        sure = (np.abs(whole) > 1e-4).all(0)
    else:
        expected = whole.argmax(0)
        ordered = np.sort(whole, axis=0)
        sure = ordered[-1] - ordered[-2] > 1e-4
    assert sure.mean() > 0.99
    np.testing.assert_array_equal(found[sure], expected[sure])


@pytest.mark.parametrize("labels", [LABELS, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("target", [(1.8, 1.3, 1.9), (9.0, 1.3, 1.9), (1.0, 7.0, 1.0)])
@pytest.mark.parametrize("slices", [1, 2, 5])
def test_the_slabs_do_not_show(labels: LabelSpec, target: TripleMm, slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.from_numpy(smooth_scores(labels.outputs, (6, 7, 8), 0))
    trace = trace_of((13, 9, 15), (6, 7, 8))
    whole = restore_labels(scores, trace, target, labels)
    monkeypatch.setattr(restore, "SLAB_BYTES", slices * 4 * 9 * 15)
    np.testing.assert_array_equal(restore_labels(scores, trace, target, labels), whole)
    monkeypatch.setattr(restore, "SLAB_BYTES", 1)
    np.testing.assert_array_equal(restore_labels(scores, trace, target, labels), whole)


@pytest.mark.parametrize("shape", [(13, 9, 15), (6, 9, 15), (4, 9, 5), (1, 1, 1)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (9.0, 1.0, 1.0)], ids=["linear", "thick slices"])
@pytest.mark.parametrize("cuts", [(1, 1, 1, 1, 1, 1), (2, 3, 1), (5, 1), (1, 5)])
def test_rows_may_come_in_any_portions(shape: Triple, spacing: TripleMm, cuts: tuple[int, ...]) -> None:
    """The buffer they come in may be used again at once."""
    scores = torch.from_numpy(smooth_scores(4, (6, 7, 8), 0))
    trace = trace_of(shape, (6, 7, 8), spacing)
    restorer = LabelRestorer(trace, (3.0, 1.0, 1.0), LABELS)
    for rows in scores.split(cuts, 1):
        buffer = rows.clone()
        restorer.add(buffer)
        buffer.fill_(1e4)
    np.testing.assert_array_equal(restorer.labels_zyx(), restore_labels(scores, trace, (3.0, 1.0, 1.0), LABELS))


def test_missing_and_surplus_rows_are_noticed() -> None:
    restorer = LabelRestorer(trace_of((13, 9, 15), (6, 7, 8)), (1.0, 1.0, 1.0), LABELS)
    restorer.add(torch.zeros(4, 5, 7, 8))
    with pytest.raises(ValueError, match="5 rows of 6"):
        restorer.labels_zyx()
    with pytest.raises(ValueError, match="7 rows of 6"):
        restorer.add(torch.zeros(4, 2, 7, 8))


def test_label_values_with_gaps() -> None:
    scores = torch.full((4, 1, 1, 4), -1.0)
    scores[[0, 1, 2, 3], 0, 0, [0, 1, 2, 3]] = 1.0  # voxel i is of output i
    found = restore_labels(scores, trace_of((1, 1, 4), (1, 1, 4)), (1.0, 1.0, 1.0), GAPS)
    assert found.tolist() == [[[0, 2, 7, 300]]]
    assert found.dtype == np.uint16


def test_regions_are_painted_in_their_order() -> None:
    """Each region where its score is above 0 (sigmoid above ½), later ones over earlier ones."""
    scores = torch.tensor([[-1.0, 1, 1, 1, -1, 0], [-1, -1, 1, 1, 1, 0], [-1, -1, -1, 1, -1, 0]]).reshape(3, 1, 1, 6)
    assert winners(scores, True).tolist() == [[[0, 1, 2, 3, 2, 0]]]
    found = restore_labels(scores, trace_of((1, 1, 6), (1, 1, 6)), (1.0, 1.0, 1.0), REGIONS)
    assert found.tolist() == [[[0, 1, 2, 300, 2, 0]]]
    assert paint(np.array([3, 0]), REGIONS).tolist() == [300, 0]
    assert paint(np.array([3, 0]), REGIONS.model_copy(update={"paint_order": (1, 2, 70_000)})).tolist() == [70_000, 0]
    swapped = REGIONS.model_copy(update={"paint_order": (3, 2, 1)})
    assert restore_labels(scores, trace_of((1, 1, 6), (1, 1, 6)), (1.0, 1.0, 1.0), swapped).tolist() == [[[0, 3, 2, 1, 2, 0]]]


def test_outside_the_crop_is_background() -> None:
    box = Box(start=(1, 2, 0), stop=(3, 3, 2))
    scores = torch.zeros(4, 2, 1, 2)
    scores[3] = 1
    found = restore_labels(scores, trace_of((4, 4, 3), (2, 1, 2), box=box), (1.0, 1.0, 1.0), LABELS)
    assert np.argwhere(found == 3).tolist() == [[1, 2, 0], [1, 2, 1], [2, 2, 0], [2, 2, 1]]
    assert found.sum() == 4 * 3


def test_constant_scores_win_everywhere_whatever_the_size() -> None:
    scores = torch.zeros(4, 1, 1, 1)
    scores[2] = 1
    found = restore_labels(scores, trace_of((7, 8, 9), (1, 1, 1)), (7.0, 8.0, 9.0), LABELS)
    assert (found == 2).all()


@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7)),
    transpose=st.sampled_from(list(permutations(range(3)))),
    gaps=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_restore_undoes_prepare(make_plan: MakePlan, shape: Triple, transpose: Triple, gaps: bool, seed: int) -> None:
    """Where nothing is resampled, prepared labels as scores come back as the raw label map, values and all."""
    rng = np.random.default_rng(seed)
    spec = GAPS if gaps else LABELS
    plan, configuration = make_plan((0.8, 1.0, 1.3), transpose=transpose, labels=spec)
    spacing = [0.0, 0.0, 0.0]
    for axis, value in zip(transpose, configuration.spacing_mm, strict=True):
        spacing[axis] = value
    inside = np.zeros(shape, bool)
    inside[tuple(slice(*sorted(rng.integers(0, size + 1, 2))) for size in shape)] = True
    image = np.where(inside, rng.uniform(1, 2, (1, *shape)), 0).astype(np.float32)
    values = np.where(inside, rng.choice(np.array(spec.allowed_values), shape), 0).astype(np.uint16)
    grid = Grid(shape_zyx=shape, spacing_mm_zyx=(spacing[0], spacing[1], spacing[2]))
    case = prepare_case(image, grid, plan, configuration, spec.encode(values, "case"), "case")
    assert case.labels_zyx is not None
    scores = torch.nn.functional.one_hot(torch.from_numpy(case.labels_zyx).long(), spec.outputs).movedim(-1, 0).float()
    np.testing.assert_array_equal(restore_labels(scores, case.trace, target_spacing(case.trace, configuration), spec), values)


def test_restored_label_maps_equal_nnunets(make_plan: MakePlan) -> None:
    """Prepared and restored by nnU-Net: axes turned, cropped, a thick axis, slices of a 2d configuration."""
    golden: dict[str, Any] = json.loads(PREPARED.read_text(encoding="utf-8"))["cases"]
    spec = LABELS.model_copy(update={"classes": LABELS.classes[:2]})
    for name, row in golden.items():
        _plan, configuration = make_plan(row["target"], transpose=tuple(row["transpose"]), labels=spec)
        starts, stops = zip(*row["box"], strict=True)
        trace = trace_of(
            tuple(row["shape"]),
            tuple(row["shape_prepared"][1:]),
            tuple(row["spacing"]),
            Box(start=tuple(starts), stop=tuple(stops)),
            tuple(row["transpose"]),
        )
        scores = np.stack([wave(row["shape_prepared"][1:], 2.0 + 5 * channel) for channel in range(3)]).astype(np.float32)
        found = restore_labels(torch.from_numpy(scores), trace, target_spacing(trace, configuration), spec)
        expected = np.array([int(digit) for digit in row["restored"]]).reshape(row["shape"])
        assert len(np.unique(expected)) == 3
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("labels", [GAPS, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("slab", [1, 2, 6])
def test_probabilities_are_those_of_scores_resampled_class_by_class(
    labels: LabelSpec, transpose: Triple, slab: int, tmp_path: Path
) -> None:
    """Softmax or sigmoid of the scores interpolated by scikit-image; certain background outside the crop."""
    scores = smooth_scores(labels.outputs, (6, 7, 8), 0)
    box = Box(start=(1, 0, 2), stop=(12, 9, 15))
    transposed: Triple = (13, 10, 16)
    sizes = {axis: size for axis, size in zip(transpose, transposed, strict=True)}
    trace = trace_of((sizes[0], sizes[1], sizes[2]), (6, 7, 8), box=box, transpose=transpose)
    with ProbabilityGrid(tmp_path, trace.grid, labels) as grid:
        taker = grid.taker(trace, (1.8, 1.3, 1.9))
        for rows in torch.from_numpy(scores).split(slab, 1):
            taker.add(rows)
        grid.write(tmp_path / "case.npz")
    dense = torch.from_numpy(full_size(scores, box.shape, None))
    inside = (torch.sigmoid(dense) if labels.overlapping else torch.softmax(dense, 0)).numpy()
    expected = np.zeros((labels.outputs, *transposed))
    if not labels.overlapping:
        expected[0] = 1
    expected[(slice(None), *box.slices())] = inside
    expected = np.moveaxis(expected, (1, 2, 3), tuple(axis + 1 for axis in transpose))
    with np.load(tmp_path / "case.npz") as file:
        assert file.files == ["probabilities"]
        found = file["probabilities"]
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["case.npz"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    trace = trace_of((4, 4, 4), (2, 2, 2))
    with pytest.raises(RuntimeError), ProbabilityGrid(tmp_path, trace.grid, GAPS) as grid:
        grid.taker(trace, (2.0, 2.0, 2.0)).add(torch.zeros(4, 1))
    with ProbabilityGrid(tmp_path, trace.grid, GAPS) as grid:
        grid.taker(trace, (2.0, 2.0, 2.0)).add(torch.zeros(4, 1, 2, 2))
        with pytest.raises(ValueError, match="1 rows of 2"):
            grid.write(tmp_path / "case.npz")
    with ProbabilityGrid(tmp_path, trace.grid, GAPS, shares=(0.5, 0.5)) as grid:
        grid.taker(trace, (2.0, 2.0, 2.0)).add(torch.zeros(4, 2, 2, 2))
        with pytest.raises(ValueError, match="scores of 1 models of 2"):
            grid.labels_zyx()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    grid = ProbabilityGrid(tmp_path / "file", trace_of((4, 4, 4), (2, 2, 2)).grid, GAPS)
    with pytest.raises(ArtefactError, match="cannot hold a temporary file"):
        grid.__enter__()


def test_a_full_disk_is_an_error_of_the_case_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk; a sparse mapped file would meet it as a signal. So would the sums in a file."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(ArtefactError, match="cannot hold a temporary file"):
            ProbabilityGrid(tmp_path, trace_of((8, 8, 8), (2, 2, 2)).grid, GAPS).__enter__()
        with pytest.raises(ArtefactError, match="cannot hold a temporary file"):
            Band((2, 8, 8, 8), torch.float16, torch.device("cpu"), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []
