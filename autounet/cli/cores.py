"""How many cores a command may use, and that no library takes more: most count the machine's and are slowed down by a quota."""

import os

from autounet.runtime import allowed_cores, usable_cores

SLURM = "SLURM_CPUS_PER_TASK"
"""Set where a job asked for cores by task; not every cluster holds it to them."""

THREADS = "OMP_NUM_THREADS"
"""Read by torch, numpy, ITK and others when they are loaded."""


def cores() -> int:
    """Cores that this command takes for its own: what affinity, control groups and Slurm leave."""
    asked = os.environ.get(SLURM, "")
    return max(1, min(usable_cores(), int(asked))) if asked.isdecimal() else usable_cores()


def keep_to_cores() -> None:
    """Tells libraries that are still to be loaded, unless the user has told them, or they would count the same by themselves."""
    if THREADS not in os.environ and cores() < allowed_cores():
        os.environ[THREADS] = str(cores())
