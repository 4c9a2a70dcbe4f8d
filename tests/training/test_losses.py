"""The loss and its gradient equal nnU-Net's; counts equal a plain count."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from autounet.errors import UsageError
from autounet.labels import LabelSpec, StructureClass
from autounet.plan import LossSpec
from autounet.training.losses import BorderLoss, SegmentationLoss, build_loss, confusion_counts, deep_supervision_weights

CASES = ("labels 2d", "labels 3d", "labels and ignore", "everything ignored", "regions", "regions and ignore")


def _spec(foreground: int, ignore: bool, regions: list[list[int]] | None) -> LabelSpec:
    members = regions or [[value] for value in range(1, foreground + 1)]
    return LabelSpec(
        classes=tuple(StructureClass(name=f"class {values}", values=tuple(values)) for values in members),
        overlapping=regions is not None,
        paint_order=tuple(range(1, foreground + 1)) if regions else (),
        ignore_value=foreground + 1 if ignore else None,
    )


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_equal_nnunet(nnunet, wave, label_map, name: str, batch_dice: bool) -> None:
    case: dict[str, Any] = next(case for case in nnunet["losses"] if (case["name"], case["batch_dice"]) == (name, batch_dice))
    spec = _spec(case["foreground"], case["ignore"], case["regions"])
    n, *space = case["shape"]
    labels = label_map((n, *space), case["foreground"] + 1 + case["ignore"])
    if case["all_ignored"]:
        labels[:] = spec.ignore_index
    scores = [
        torch.tensor(3 * wave((n, spec.outputs, *(side // 2**level for side in space)), level), dtype=torch.float32, requires_grad=True)
        for level in range(3)
    ]
    loss = SegmentationLoss(spec, batch_dice, 3)(scores, torch.from_numpy(labels))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(case["value"], abs=1e-5)
    for score, gradient in zip(scores, case["gradients"], strict=False):
        np.testing.assert_allclose(score.grad.flatten().numpy(), gradient, atol=1e-5)
    assert scores[2].grad is None  # the coarsest resolution has weight 0


def test_deep_supervision_weights_by_hand() -> None:
    assert deep_supervision_weights(1) == (1.0,)
    assert deep_supervision_weights(2) == (1.0, 0.0)
    # 1, 1/2, 1/4, 0 sum to 7/4
    assert deep_supervision_weights(4) == pytest.approx((4 / 7, 2 / 7, 1 / 7, 0))


def test_perfect_scores_reach_minus_one(two_labels: LabelSpec) -> None:
    # Cross-entropy 0, Dice 1 for both classes.
    labels = torch.tensor([[[0, 1], [2, 2]]], dtype=torch.int16)
    scores = 50.0 * torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).float()
    assert float(SegmentationLoss(two_labels, False, 1)([scores], labels)) == pytest.approx(-1, abs=1e-5)


def test_ignored_voxels_have_no_gradient(wave) -> None:
    spec = _spec(2, True, None)
    labels = torch.tensor([[[0, 1, 2, 3], [3, 3, 1, 0]]], dtype=torch.int16)
    scores = torch.tensor(wave((1, 3, 2, 4), 0.0), dtype=torch.float32, requires_grad=True)
    SegmentationLoss(spec, False, 1)([scores], labels).backward()
    assert (scores.grad.abs().sum(1) == 0).equal(labels == 3)


def test_finest_resolution_alone_is_the_whole_loss(two_labels: LabelSpec, wave, label_map) -> None:
    # In evaluation the network returns one resolution; its weight is then 1.
    labels = torch.from_numpy(label_map((1, 8, 8), 3))
    score = torch.from_numpy(wave((1, 3, 8, 8), 0.0)).float()
    assert float(SegmentationLoss(two_labels, False, 4)([score], labels)) == float(SegmentationLoss(two_labels, False, 1)([score], labels))


@pytest.mark.parametrize(("ignore", "regions"), [(False, None), (True, None), (False, [[1, 2], [2]]), (True, [[1, 2], [2]])])
def test_confusion_counts_equal_a_voxel_by_voxel_count(wave, label_map, ignore: bool, regions: list[list[int]] | None) -> None:
    spec = _spec(2, ignore, regions)
    labels = label_map((2, 5, 6), 3 + ignore)
    scores = wave((2, spec.outputs, 5, 6), 0.5)
    expected = np.zeros((3, len(spec.classes)), int)
    for place in np.ndindex(*labels.shape):
        if ignore and labels[place] == 3:
            continue
        sample, *where = place
        here = scores[(sample, slice(None), *where)]
        for position, entry in enumerate(spec.classes):
            truth = int(labels[place]) in entry.values
            predicted = here[position] > 0 if regions else int(here.argmax()) == entry.values[0]
            expected[:, position] += [predicted and truth, predicted and not truth, truth and not predicted]
    assert confusion_counts(torch.from_numpy(scores), torch.from_numpy(labels), spec).numpy().tolist() == expected.tolist()


BORDER = LossSpec(kind="border_ce", class_weights=(1.0, 3.0, 0.5), objects=(0,))


def test_weighted_entropy_by_hand() -> None:
    """Two pixels, two classes. Scores (0, ln 3) give probabilities 1/4 and 3/4.

    Pixel 0 is of class 0 with weight 2 and border 0: 2 · -ln 1/4. Pixel 1 is of class 1 with weight 1 and border 4: 5 · -ln 3/4.
    """
    scores = torch.tensor([[[[0.0, 0.0]], [[np.log(3), np.log(3)]]]], dtype=torch.float32)
    labels, border = torch.tensor([[[0, 1]]], dtype=torch.int16), torch.tensor([[[0.0, 4.0]]])
    loss = BorderLoss(_spec(1, False, None), LossSpec(kind="border_ce", class_weights=(2.0, 1.0)))
    assert float(loss([scores], labels, border)) == pytest.approx((2 * np.log(4) + 5 * np.log(4 / 3)) / 2)
    assert float(loss([scores], labels)) == pytest.approx((2 * np.log(4) + np.log(4 / 3)) / 2)


@pytest.mark.parametrize("ignore", [False, True])
def test_weighted_entropy_equals_a_voxel_by_voxel_sum(wave, label_map, ignore: bool) -> None:
    labels, border = label_map((2, 5, 6), 3 + ignore), np.abs(wave((2, 5, 6), 2.0)) * 10
    scores = 3 * wave((2, 3, 5, 6), 0.5)
    total, counted = 0.0, 0
    for place in np.ndindex(*labels.shape):
        if labels[place] == 3:
            continue
        sample, *where = place
        here = scores[(sample, slice(None), *where)]
        probability = np.exp(here[labels[place]]) / np.exp(here).sum()
        total -= (BORDER.class_weights[labels[place]] + border[place]) * np.log(probability)
        counted += 1
    loss = BorderLoss(_spec(2, ignore, None), BORDER)
    tensors = torch.from_numpy(scores).float(), torch.from_numpy(labels), torch.from_numpy(border).float()
    assert float(loss([tensors[0]], *tensors[1:])) == pytest.approx(total / counted, rel=1e-5)


def test_without_weights_it_is_torchs_cross_entropy(wave, label_map) -> None:
    labels, scores = torch.from_numpy(label_map((2, 6, 7), 3)), torch.from_numpy(wave((2, 3, 6, 7), 0.5)).float()
    plain = BorderLoss(_spec(2, False, None), LossSpec(kind="border_ce"))([scores], labels)
    torch.testing.assert_close(plain, torch.nn.functional.cross_entropy(scores, labels.long()))


def test_ignored_voxels_have_no_weight(wave) -> None:
    labels = torch.tensor([[[0, 1, 2, 3], [3, 3, 1, 0]]], dtype=torch.int16)
    scores = torch.tensor(wave((1, 3, 2, 4), 0.0), dtype=torch.float32, requires_grad=True)
    loss = BorderLoss(_spec(2, True, None), BORDER)
    loss([scores], labels, torch.ones(1, 2, 4)).backward()
    assert (scores.grad.abs().sum(1) == 0).equal(labels == 3)
    nothing = loss([scores.detach()], torch.full_like(labels, 3), torch.ones(1, 2, 4))
    assert float(nothing) == 0


def test_weighted_entropy_at_every_resolution(wave, label_map) -> None:
    """Networks with deep supervision: labels and weights are taken at the nearest voxel, and resolutions weigh as for the Dice."""
    labels, border = torch.from_numpy(label_map((1, 8, 8), 3)), torch.from_numpy(np.abs(wave((1, 8, 8), 0.3))).float()
    fine, coarse, last = (torch.from_numpy(wave((1, 3, side, side), 0.0)).float() for side in (8, 4, 2))
    loss = BorderLoss(_spec(2, False, None), BORDER)
    apart = loss([fine], labels, border), loss([coarse], labels[:, 1::2, 1::2], border[:, 1::2, 1::2])
    torch.testing.assert_close(loss([fine, coarse, last], labels, border), (2 * apart[0] + apart[1]) / 3)


def test_the_plan_chooses_the_loss(two_labels: LabelSpec) -> None:
    assert isinstance(build_loss(LossSpec(), two_labels, False, 3), SegmentationLoss)
    assert isinstance(build_loss(BORDER, two_labels, False, 3), BorderLoss)
    with pytest.raises(UsageError, match="overlapping regions"):
        build_loss(BORDER, _spec(2, False, [[1, 2], [2]]), False, 3)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_voxels_without_a_label_may_count_a_little_as_background(batch_dice: bool) -> None:
    """By hand: four voxels, background, class 1, and two that nobody has looked at, each of which counts 1/4 as background."""
    spec = LabelSpec(classes=(StructureClass(name="one", values=(1,)),), ignore_value=2)
    labels = torch.tensor([[[0, 1], [2, 2]]], dtype=torch.int16)
    probability = torch.tensor([0.1, 0.8, 0.2, 0.6])
    scores = torch.stack([torch.log(1 - probability), torch.log(probability)]).view(1, 2, 2, 2)
    entropy = -(np.log(0.9) + np.log(0.8) + 0.25 * np.log(0.8) + 0.25 * np.log(0.4)) / 2.5
    dice = 2 * 0.8 / (0.1 + 0.8 + 0.25 * 0.2 + 0.25 * 0.6 + 1)
    loss = build_loss(LossSpec(unlabelled=0.25), spec, batch_dice, 1)
    assert float(loss([scores], labels)) == pytest.approx(entropy - dice, abs=1e-4)


def test_at_full_weight_they_are_background(wave, label_map) -> None:
    """Labels, weights of classes among them, and regions: as if the label map had said so."""
    plain = _spec(2, True, None)
    regions = _spec(2, True, [[1, 2], [2]])
    for spec, weights in ((plain, ()), (plain, (1.0, 2.0, 3.0)), (regions, ())):
        labels = torch.from_numpy(label_map((2, 8, 8), 4))
        scores = torch.from_numpy(3 * wave((2, spec.outputs, 8, 8), 0.7)).float()
        filled = torch.where(labels == spec.ignore_index, 0, labels)
        found = SegmentationLoss(spec, True, 1, weights, unlabelled=1.0)([scores], labels)
        without = spec.model_copy(update={"ignore_value": None})
        expected = float(SegmentationLoss(without, True, 1, weights)([scores], filled))
        if spec.overlapping:  # nnU-Net sums the regions' cross-entropy where there is an ignore label, and averages it elsewhere
            dice = expected - float(functional.binary_cross_entropy_with_logits(scores, _masks(filled)))
            expected = dice + 2 * float(functional.binary_cross_entropy_with_logits(scores, _masks(filled)))
        assert float(found) == pytest.approx(expected, abs=1e-5)


def _masks(labels: torch.Tensor) -> torch.Tensor:
    """Of the regions {1, 2} and {2}."""
    return torch.stack([labels > 0, labels == 2], 1).float()
