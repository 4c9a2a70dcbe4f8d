"""One target in a process of its own, with atheris: coverage of our code and of the readers written in Python leads it on.

``python -m benchmarks.fuzz.worker TARGET SECONDS OUT``: libFuzzer's words go to standard error, reproducers to OUT.
"""

import faulthandler
import hashlib
import itertools
import logging
import os
import shutil
import sys
import time
from pathlib import Path

import atheris

from benchmarks.fuzz.watch import Watch, judge, limit_memory, working_folder

INSTRUMENTED = [
    "autounet",
    "nibabel.nifti1",
    "nibabel.wrapstruct",
    "tifffile",
    "zipfile",
    "pydicom",
    "PIL.PngImagePlugin",
    "PIL.BmpImagePlugin",
]
"""Packages whose branches count as coverage."""

HANGS_SECONDS = 60
"""libFuzzer ends a process that takes longer over one input, whatever library it is in."""


def main(name: str, seconds: int, out: Path) -> None:
    """Fuzzes until the time is over or something is found; does not return."""
    with atheris.instrument_imports(include=INSTRUMENTED):
        from benchmarks.fuzz.targets import TARGETS
    from benchmarks.fuzz.corpus import findings_of

    target = TARGETS[name]
    corpus = out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    with working_folder() as ground:
        folder = ground / name / "in"
        seeds = target.prepare(folder)
        for title, data in (*seeds.items(), *findings_of(name).items()):
            (corpus / title.replace("/", "_")).write_bytes(data)
        watch = Watch()
        for data in seeds.values():  # once unwatched: libraries load what they need on first use
            judge(lambda data=data: target.run(data, folder), watch, folder, target.may_name, target.most_seconds)  # type: ignore[misc]
        limit_memory()

        began, tried = time.monotonic(), itertools.count(1)

        def one(data: bytes) -> None:
            number = next(tried)
            if (passed := time.monotonic() - began) > seconds:  # native libraries' threads can keep libFuzzer's own end from ending
                print(f"tried {number} in {passed:.0f} s", file=sys.stderr, flush=True)
                shutil.rmtree(ground, ignore_errors=True)
                os._exit(0)
            fault = judge(lambda: target.run(data, folder), watch, folder, target.may_name, target.most_seconds)
            if fault is not None:
                (out / f"crash-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)  # libFuzzer does not always come to it
                raise AssertionError(fault)

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            if seed % 4 == 0:
                return bytes(atheris.Mutate(data, most))
            return target.changed(data, seed)[:most]

        limits = [f"-timeout={HANGS_SECONDS}", f"-max_len={target.most_bytes}", "-rss_limit_mb=0"]
        words = ["fuzz", str(corpus), *limits, f"-artifact_prefix={out}/", "-print_final_stats=1", "-verbosity=1"]
        atheris.Setup(words, one, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
