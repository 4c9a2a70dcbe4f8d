"""Runs in nnU-Net's environment, for ``benchmarks/training.py``: times its training step on random patches.

The only argument is a JSON object; the last line printed is a JSON list of seconds. Network, loss and optimizer are set up as
in nnunetv2 2.8.1, ``training/nnUNetTrainer/nnUNetTrainer.py`` (_build_loss, configure_optimizers, train_step).
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch


def main() -> None:
    """Times the steps."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    spec = job["network"]
    network = _network(spec).train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    loss_of = _loss(len(spec["blocks_decoder"]), job["batch_dice"])
    image = torch.randn(job["batch_size"], spec["in_channels"], *job["patch_size"])
    targets = _targets(spec, job)
    seconds = []
    for _ in range(job["warm_up"] + job["steps"]):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        if job["precision"] == "bf16":
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(network(image), targets)
        else:
            loss = loss_of(network(image), targets)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds[job["warm_up"] :]))


def _network(spec: dict[str, Any]) -> torch.nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    return get_network_from_plans(*architecture(spec), spec["in_channels"], spec["outputs"], deep_supervision=True)


def architecture(spec: dict[str, Any]) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """What nnU-Net's plans say of one of our networks: its class, the class's arguments, and which of these are names to import."""
    ndim = spec["ndim"]
    kinds = {"plain": ("PlainConvUNet", "n_conv_per_stage"), "residual": ("ResidualEncoderUNet", "n_blocks_per_stage")}
    name, blocks = kinds[spec["kind"]]
    numbers = {
        "n_stages": len(spec["features"]),
        "features_per_stage": spec["features"],
        "conv_op": f"torch.nn.modules.conv.Conv{ndim}d",
        "kernel_sizes": spec["kernel_sizes"],
        "strides": spec["strides"],
        blocks: spec["blocks_encoder"],
        "n_conv_per_stage_decoder": spec["blocks_decoder"],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{ndim}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return f"dynamic_network_architectures.architectures.unet.{name}", numbers, ("conv_op", "norm_op", "dropout_op", "nonlin")


def _loss(resolutions: int, batch_dice: bool) -> torch.nn.Module:
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(dice, {}, weight_ce=1, weight_dice=1, ignore_label=None, dice_class=MemoryEfficientSoftDiceLoss)
    weights = np.array([0.5**level for level in range(resolutions)])
    weights[-1] = 0 if resolutions > 1 else 1
    return DeepSupervisionWrapper(loss, weights / weights.sum())


def _targets(spec: dict[str, Any], job: dict[str, Any]) -> list[torch.Tensor]:
    """Label patches (n, 1, *space) at every decoder resolution: nnU-Net's loading workers make them, so they are not timed."""
    size, targets = np.array(job["patch_size"]), []
    for stride in spec["strides"][: len(spec["blocks_decoder"])]:
        size = size // np.array(stride)
        targets.append(torch.randint(0, spec["outputs"], (job["batch_size"], 1, *size.tolist())).float())
    return targets


if __name__ == "__main__":
    main()
