"""Runs in nnU-Net's environment, for ``benchmarks/training_parity.py`` and ``golden/nnunet_recipe.py``: how nnU-Net trains.

``python -m benchmarks.peer_training QUESTIONS ANSWERS``, both files of torch: a dictionary of lists, by the functions below that answer
them. Everything asked is nnU-Net's own trainer or data loader, set up as its training does, on a CPU; where it draws at random, it gets
the draws it is told. The functions take and give tensors and plain values only.
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import nnUNetTrainerNoDeepSupervision
from torch import Tensor, nn

from benchmarks.activation_signs import activation_signs, flipped
from benchmarks.peer_step import architecture

Case = dict[str, Any]
"""``network`` (our NetworkSpec), ``patch_size``, ``batch_size``, ``batch_dice``, ``dataset`` (dataset.json), ``deep_supervision``."""

NAME, DATA = "Dataset999_Parity", "given"


def trainer_of(case: Case) -> Any:
    """nnU-Net's trainer, initialised: network with fresh weights, loss, optimizer, learning rate."""
    path, numbers, imported = architecture(case["network"])
    configuration = {
        "data_identifier": DATA,
        "patch_size": list(case["patch_size"]),
        "batch_size": case["batch_size"],
        "batch_dice": case["batch_dice"],
        "use_mask_for_norm": [False] * case["network"]["in_channels"],
        "architecture": {"network_class_name": path, "arch_kwargs": numbers, "_kw_requires_import": imported},
    }
    plans = {"dataset_name": NAME, "plans_name": "plans", "configurations": {DATA: configuration}, "continue_training": False}
    folder = Path(nnUNet_preprocessed) / NAME / DATA
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "case.b2nd").touch()  # by its name nnU-Net knows how arrays are kept
    trainer_class = nnUNetTrainer if case["deep_supervision"] else nnUNetTrainerNoDeepSupervision
    trainer = trainer_class(plans, DATA, 0, case["dataset"], torch.device("cpu"))
    trainer.initialize()
    return trainer


def batch_of(trainer: Any, image: Tensor, labels: Tensor) -> dict[str, Any]:
    """A batch as nnU-Net's loader hands it over without augmentation: label maps (n, *space) become its targets."""
    manager = trainer.label_manager
    transforms = trainer.get_validation_transforms(
        trainer._get_deep_supervision_scales(),
        regions=manager.foreground_regions if manager.has_regions else None,
        ignore_label=manager.ignore_label,
    )
    each = [transforms(image=one, segmentation=of[None].clone())["segmentation"] for one, of in zip(image, labels, strict=True)]
    if isinstance(each[0], list):
        return {"data": image, "target": [torch.stack(level) for level in zip(*each, strict=True)]}
    return {"data": image, "target": torch.stack(each)}


def named(network: nn.Module) -> dict[str, Tensor]:
    """Its parameters' values, each once."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def backward(trainer: Any, image: Tensor, target: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and the gradient of every parameter, zeros where there is none."""
    trainer.optimizer.zero_grad(set_to_none=True)
    loss = trainer.loss(trainer.network(image), target)
    loss.backward()
    parameters = trainer.network.named_parameters()
    return loss.item(), {name: torch.zeros_like(one) if one.grad is None else one.grad.clone() for name, one in parameters}


def learn(case: Case) -> dict[str, Any]:
    """Loss and gradients of a batch (``image``, ``labels``), then steps: the first batch again and again, at the rate of given ``epochs``.

    ``weights`` are the network's to begin with, else fresh ones of ``seed``; heads are multiplied by ``head_scale``. Gradients are also
    taken with the network in float64 (``exact``); ``flipped`` is the number of activations whose sign is another there. Steps are in
    float64, and with ``double`` all of it.
    """
    torch.manual_seed(case.get("seed", 0))
    trainer = trainer_of(case)
    trainer.network.train()
    with torch.no_grad():
        for name, parameter in trainer.network.named_parameters():
            if "weights" in case:
                parameter.copy_(case["weights"][name])
            elif name.endswith("conv2.norm.weight"):
                parameter.fill_(0.5)  # fresh residual blocks are their shortcuts: nothing would reach the rest
            if name.startswith("decoder.seg_layers."):
                parameter.mul_(case.get("head_scale", 1.0))
    batch = batch_of(trainer, case["image"], case["labels"])
    weights = named(trainer.network)
    trainer.network.double()
    with activation_signs() as exact_signs:
        exact_loss, exact = backward(trainer, batch["data"].double(), batch["target"])
    if case.get("double"):
        loss, gradients, signs = exact_loss, exact, exact_signs
    else:
        trainer.network.float()
        with activation_signs() as signs:
            loss, gradients = backward(trainer, batch["data"], batch["target"])
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    trainer.network.double()
    batch["data"], steps = batch["data"].double(), []
    for epoch in case["epochs"]:
        trainer.current_epoch = epoch
        trainer.lr_scheduler.step(epoch)  # as on_train_epoch_start does
        step = trainer.train_step(batch)
        rate = trainer.optimizer.param_groups[0]["lr"]
        steps.append({"rate": rate, "loss": float(step["loss"]), "weights": named(trainer.network)})
    return {
        "weights": weights, "loss": loss, "gradients": gradients, "exact": exact, "norm": norm.item(), "steps": steps,
        "flipped": flipped(signs, exact_signs),
    }  # fmt: skip


def fresh(case: Case) -> dict[str, Tensor]:
    """A network's weights before training, drawn from ``seed``."""
    torch.manual_seed(case["seed"])
    return named(trainer_of(case).network)


def rates(asked: dict[str, Any]) -> list[float]:
    """Learning rate of every epoch of ``epochs``."""
    trainer = trainer_of(asked["case"])
    trainer.num_epochs = asked["epochs"]
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    found = []
    for epoch in range(asked["epochs"]):
        trainer.lr_scheduler.step(epoch)
        found.append(float(trainer.optimizer.param_groups[0]["lr"]))
    return found


def numbers(case: Case) -> dict[str, float]:
    """What the trainer and its optimizer have as numbers."""
    trainer = trainer_of(case)
    group = trainer.optimizer.param_groups[0]
    return {
        "learning rate": trainer.initial_lr,
        "exponent of its decay": trainer.lr_scheduler.exponent,
        "momentum": group["momentum"],
        "Nesterov": float(group["nesterov"]),
        "dampening": group["dampening"],
        "weight decay": group["weight_decay"],
        "epochs": trainer.num_epochs,
        "steps per epoch": trainer.num_iterations_per_epoch,
        "validation patches' batches per step": trainer.num_val_iterations_per_epoch / trainer.num_iterations_per_epoch,
        "share around foreground": trainer.oversample_foreground_percent,
        "groups of parameters": len(trainer.optimizer.param_groups),
    }


def geometry(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Rotation, loaded size and mirroring for each of ``patch_sizes``."""
    trainer = trainer_of(asked["case"])
    found = []
    for patch in asked["patch_sizes"]:
        trainer.configuration_manager.configuration["patch_size"] = list(patch)
        angles, within_slices, loaded, mirrored = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        found.append(
            {
                "angles_rad": [float(angle) for angle in angles],
                "within_slices": bool(within_slices),
                "loaded": [int(side) for side in loaded],
                "mirrored": list(mirrored),
            }
        )
    return found


def loader_of(batch_size: int, loaded: Sequence[int], patch: Sequence[int], labels: Sequence[int], ignore: bool) -> Any:
    """nnU-Net's loader, without data, with its trainer's share of foreground."""
    data, manager = SimpleNamespace(identifiers=["case"]), SimpleNamespace(all_labels=list(labels), has_ignore_label=ignore)
    return nnUNetDataLoader(data, batch_size, tuple(loaded), tuple(patch), manager, oversample_foreground_percent=0.33)


def forced(batch_size: int) -> list[bool]:
    """Which samples of a batch must hold foreground."""
    loader = loader_of(batch_size, (8, 8), (8, 8), (0, 1), False)
    return [bool(loader.get_do_oversample(sample)) for sample in range(batch_size)]


def forced_by_chance(draw: float) -> bool:
    """Whether the one sample of a batch must, for a draw from 0 to 1, where nnU-Net is told to do it by chance."""
    with told([draw]):
        return bool(loader_of(1, (8, 8), (8, 8), (0, 1), False)._probabilistic_oversampling(0))


def box(asked: dict[str, Any]) -> list[int]:
    """First voxel of a patch in a case, for given ``draws``."""
    classes = range(1, len(asked["foreground"]) + 1)
    loader = loader_of(2, asked["loaded"], asked["patch"], (0, *classes), asked["annotated"] is not None)
    places = {number: _places(voxels) for number, voxels in zip(classes, asked["foreground"], strict=True)}
    if asked["annotated"] is not None:
        places[loader.annotated_classes_key] = _places(asked["annotated"])
    with told(asked["draws"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start, _ = loader.get_bbox(np.array(asked["shape"]), asked["forced"], places)
    return [int(first) for first in start]


def _places(voxels: Sequence[Sequence[int]]) -> np.ndarray:
    """As nnU-Net's preprocessing keeps them: a channel before the three axes."""
    return np.array([(0, *voxel) for voxel in voxels], dtype=np.int64).reshape(-1, 4)


@contextlib.contextmanager
def told(draws: Sequence[float]) -> Iterator[None]:
    """Within, numpy's global generator answers by these numbers from 0 to 1, one after the other; where there is no choice, by none."""
    left = iter(draws)
    answers: dict[str, Callable[..., Any]] = {
        "randint": lambda low, high: low + (int(next(left) * (high - low)) if high - low > 1 else 0),
        "choice": lambda count: int(next(left) * count) if count > 1 else 0,
        "uniform": lambda: next(left),
    }
    with mock.patch.multiple(np.random, **answers):
        yield


def pseudo_dice(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Dice of every class, their mean and the smoothed mean after each of ``epochs``: lists of batches of ``scores`` and ``labels``."""
    trainer = trainer_of({**asked["case"], "deep_supervision": False})
    found = []
    for epoch, batches in enumerate(asked["epochs"]):
        trainer.current_epoch, outputs = epoch, []
        for batch in batches:
            trainer.network = lambda image, scores=batch["scores"]: scores
            outputs.append(trainer.validation_step(batch_of(trainer, batch["scores"], batch["labels"])))
        trainer.on_validation_epoch_end(outputs)
        of = {name: trainer.logger.get_value(name, step=epoch) for name in ("dice_per_class_or_region", "mean_fg_dice", "ema_fg_dice")}
        found.append(
            {
                "dice": [float(value) for value in of["dice_per_class_or_region"]],
                "mean": float(of["mean_fg_dice"]),
                "smoothed": float(of["ema_fg_dice"]),
            }
        )
    return found


ANSWERS: tuple[Callable[[Any], Any], ...] = (learn, fresh, rates, numbers, geometry, forced, forced_by_chance, box, pseudo_dice)


def main() -> None:
    """Answers one file of questions."""
    questions = torch.load(sys.argv[1], weights_only=True)
    by_name = {function.__name__: function for function in ANSWERS}
    with quietly():
        answers = {name: [by_name[name](entry) for entry in entries] for name, entries in questions.items()}
    torch.save(answers, sys.argv[2])


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what nnU-Net prints."""
    with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    main()
