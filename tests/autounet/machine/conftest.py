"""A machine with which nothing is wrong, for tests that change one thing."""

import pytest

from autounet.machine.facts import Cards, Disk, Gpu, Machine, Memory, Processor, SelfTest, System, Torch

GB = 10**9


@pytest.fixture
def gpu() -> Gpu:
    return Gpu(name="NVIDIA A10", total_bytes=24 * GB, free_bytes=23 * GB, capability=(8, 6), bf16=True, known=True)


@pytest.fixture
def machine(gpu: Gpu) -> Machine:
    """16 cores, 64 GB, one GPU, a fast disk."""
    return Machine(
        versions={"autounet": "1.0"},
        system=System(platform="Linux", output_encoding="utf-8", file_encoding="utf-8", open_files=1024, long_paths=None),
        processor=Processor(
            name="a CPU", present=16, allowed=16, quota=None, asked=None, used=16, workers=8, omp_threads=None, features=("avx2",)
        ),
        memory=Memory(total=64 * GB, available=60 * GB, group_limit=None, own_limits={}, swap=0, shared_memory=64 * 2**20),
        torch=Torch(
            version="2.10.0+cu128", cuda="12.8", hip=None, cudnn=91501, threads=16, gpus=(gpu,), problem=None, mps=False, device="cuda",
            precision="bfloat16", refused=None,
        ),
        torch_problem=None,
        cards=Cards(names=("NVIDIA A10",), driver="570.1", visible=None),
        disks=(
            Disk(
                purpose="run folder", path="runs", file_system="ext4", remote=False, free_bytes=500 * GB, write_mb_s=400.0,
                pieces_mb_s=300.0,
            ),
        ),
        self_test=SelfTest(
            steps=60, first_loss=0.5, last_loss=-0.7, dice=0.95, step_seconds=0.02, batch_seconds=0.001, predict_seconds=0.1,
            deviation=0.01, tolerance=0.1, repeatable=None, seconds=4.0,
        ),
        self_test_problem=None,
    )  # fmt: skip
