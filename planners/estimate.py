"""What training a configuration will cost: GPU memory and the time of an epoch, estimated from the network's counts alone.

**Memory** goes in proportion to the activations of a batch (``networks.cost``), as nnU-Net's planner reckons: a preset's
``Target.features`` activations, ``Target.batch`` times, were seen to train in ``Preset.gpu_memory_gb``. GB by this rule for nnU-Net's
``3d_fullres`` plans of six Decathlon datasets (XL without Hippocampus, whose batch the size of the dataset limits), and published for
other datasets (nnU-Net Revisited, 2024):

=========  ============  =========
            by the rule  published
=========  ============  =========
plain        1.2 to 7.7        7.7
ResEnc M     6.6 to 8.1        9.1
ResEnc L       19 to 25       22.7
ResEnc XL      36 to 46       36.6
=========  ============  =========

The rule knows nothing of what a GPU's software takes for itself, so small networks need more than it says.

**Time** is the work of an epoch over a throughput, plus a fixed time per batch. Both numbers come from published epochs of nnU-Net on
an H100 PCIe (mixed precision, torch 2.4; results archived in github automl/AutoNNUnet), with the plans that nnU-Net 2.8.1 makes:

====================  ===================  ===========  ===========
``3d_fullres``        1e12 multiply-adds   published s  estimated s
====================  ===================  ===========  ===========
Hippocampus                           138   5.6 to 7.4          6.0
Prostate                              758         18.6         19.5
Spleen                                841         20.5         21.3
Pancreas                              859         20.5         21.7
Heart                                 896           26         22.5
BrainTumour                           772           55         19.8
Hippocampus ResEnc M                 1350           29         32.3
Hippocampus ResEnc L                 4142           90         93.1
all six ResEnc L             3670 to 5021    67 to 118    83 to 112
====================  ===================  ===========  ===========

All but BrainTumour lie within a factor of 1.25. BrainTumour has four channels of large images, and loading them may have been what took
the time: an estimate from the network cannot know. An A100 took 1.35 to 1.5 times as long as an H100 by this estimate (published: 32, 43,
126 and 238 s for plain, M, L and XL).

The CPU's number is a step of nnU-Net's Hippocampus plan: 3 · 9 · 19.1e9 multiply-adds in 5.98 s on two cores of an AMD EPYC in float32 (in
bfloat16 2.65 s). Neither number was checked for 2D networks or for ``unet2015``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from autounet.networks.cost import activations, multiply_adds
from autounet.plan import Decision, NetworkSpec
from autounet.planners.budget import Budget
from autounet.planners.words import large
from autounet.preset import Target

STEPS, VALIDATION_BATCHES = 250, 50
"""Of an epoch, as nnU-Net trains."""

PASSES = 3
"""Work of a training step in forward passes: the backward pass takes one for the inputs' gradients and one for the weights'."""


@dataclass(frozen=True, slots=True)
class Machine:
    """How fast a machine trains; see the module for the sources."""

    name: str
    multiply_adds_per_s: float
    seconds_per_batch: float
    """Of every batch, whatever its size."""


DATA_CENTRE_GPU = Machine("a data-centre GPU", 46e12, 0.01)
SMALL_CPU = Machine("two CPU cores", 86e9, 0.0)

CLASSES = ((10.0, "seconds"), (60.0, "under a minute"), (600.0, "a few minutes"), (3600.0, "over ten minutes"), (36000.0, "over an hour"))
"""Seconds below which a time has a name."""

LONGEST = "over ten hours"


@dataclass(frozen=True, slots=True)
class EpochTime:
    """How long an epoch takes, in words (see ``CLASSES``)."""

    gpu: str
    cpu: str


def training_memory_gb(network: NetworkSpec, patch_size: Sequence[int], batch_size: int, target: Target, target_memory_gb: float) -> float:
    """GPU memory that training needs, in GB: an estimate by proportion, without what the GPU's software takes for itself.

    Args:
        network: The network.
        patch_size: Voxels per network axis.
        batch_size: Patches per step.
        target: Activations that were seen to fit, for a network of this dimensionality.
        target_memory_gb: The memory that they fitted into (``Preset.gpu_memory_gb``, also where another memory is planned for).
    """
    return target_memory_gb * activations(network, patch_size) * batch_size / (target.features * target.batch)


def epoch_work(network: NetworkSpec, patch_size: Sequence[int], batch_size: int) -> int:
    """Multiplications with additions of an epoch: its steps, forward and backward, and its validation batches, forward."""
    return multiply_adds(network, patch_size) * batch_size * (PASSES * STEPS + VALIDATION_BATCHES)


def epoch_seconds(network: NetworkSpec, patch_size: Sequence[int], batch_size: int, machine: Machine) -> float:
    """Seconds of an epoch on a machine that is not kept waiting for data: an estimate, good for a class of time."""
    batches = STEPS + VALIDATION_BATCHES
    return epoch_work(network, patch_size, batch_size) / machine.multiply_adds_per_s + batches * machine.seconds_per_batch


def epoch_time_class(network: NetworkSpec, patch_size: Sequence[int], batch_size: int) -> EpochTime:
    """How long an epoch takes on a data-centre GPU in mixed precision, and on two CPU cores in float32."""
    gpu, cpu = (time_class(epoch_seconds(network, patch_size, batch_size, machine)) for machine in (DATA_CENTRE_GPU, SMALL_CPU))
    return EpochTime(gpu, cpu)


def time_class(seconds: float) -> str:
    """A time in words: ``under a minute``."""
    return next((name for limit, name in CLASSES if seconds < limit), LONGEST)


def cost_decisions(network: NetworkSpec, patch_size: Sequence[int], batch_size: int, budget: Budget) -> tuple[Decision, ...]:
    """What a configuration will cost, for the list of its decisions: ``GPU memory`` and ``epoch time``.

    Args:
        network: The network as it is built.
        patch_size: Voxels per network axis.
        batch_size: Patches per step.
        budget: What the configuration was planned under.
    """
    preset, target = budget.preset, budget.target
    needed = training_memory_gb(network, patch_size, batch_size, target, preset.gpu_memory_gb)
    time, work = epoch_time_class(network, patch_size, batch_size), epoch_work(network, patch_size, batch_size)
    return (
        Decision(
            name="GPU memory",
            value=_gigabytes(needed),
            reason=f"an estimate: {batch_size} × {large(activations(network, patch_size))} activations, where preset '{preset.name}' "
            f"reckons {preset.gpu_memory_gb:g} GB for {target.batch} × {large(target.features)}; "
            "a small network needs more than in proportion",
        ),
        Decision(
            name="epoch time",
            value=f"{time.gpu} on {DATA_CENTRE_GPU.name}, {time.cpu} on {SMALL_CPU.name}",
            reason=f"{large(work)} multiply-adds in {STEPS} steps and {VALIDATION_BATCHES} validation batches, at "
            f"{large(DATA_CENTRE_GPU.multiply_adds_per_s)} a second as nnU-Net on an H100, or "
            f"{large(SMALL_CPU.multiply_adds_per_s)} on {SMALL_CPU.name} in float32; waiting for data comes on top",
        ),
    )


def _gigabytes(memory_gb: float) -> str:
    """``about 7.7 GB``; no more digits than the estimate has."""
    if memory_gb < 0.1:
        return "below 0.1 GB"
    return f"about {memory_gb:.0f} GB" if memory_gb >= 10 else f"about {memory_gb:.1f} GB"
