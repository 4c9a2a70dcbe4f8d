"""Writes tests/golden/nnunet_postprocessing.json: label maps and what nnU-Net's postprocessing makes of them.

Run it with a Python that has nnunetv2 2.8.1 (an environment of its own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_postprocessing.py tests/golden/nnunet_postprocessing.json

Label maps are written as strings of digits, row by row. They are drawn as scattered blobs, so that components touch by corners only
and some are equally large.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing, remove_all_but_largest_component_from_segmentation

CASES: dict[str, dict[str, Any]] = {
    "one label": {"shape": (4, 6, 6), "density": 0.25, "steps": [1]},
    "a region": {"shape": (4, 6, 6), "density": 0.15, "steps": [(1, 2)]},
    "all foreground, then each label": {"shape": (5, 7, 6), "density": 0.12, "steps": [[1, 2, 3], 1, 2, 3]},
    "planar": {"shape": (1, 9, 12), "density": 0.3, "steps": [1, 2]},
    "components of equal size": {"shape": (3, 5, 5), "density": 0.05, "steps": [1, 2, 3]},
    "a label that is not there": {"shape": (3, 4, 4), "density": 0.2, "steps": [7, (1, 9)]},
}


def digits(labels: np.ndarray) -> str:
    """A label map as text."""
    return "".join(str(value) for value in labels.ravel().tolist())


def main() -> None:
    """Computes everything and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    rows = []
    for seed, (name, case) in enumerate(CASES.items()):
        rng = np.random.default_rng(seed)
        labels = (rng.integers(1, 4, case["shape"]) * (rng.random(case["shape"]) < case["density"])).astype(np.uint8)
        functions = [remove_all_but_largest_component_from_segmentation] * len(case["steps"])
        result = apply_postprocessing(labels, functions, [{"labels_or_regions": step} for step in case["steps"]])
        values = [list(step) if isinstance(step, (tuple, list)) else [step] for step in case["steps"]]
        row = {"shape": case["shape"], "steps": values, "labels": digits(labels), "expected": digits(result)}
        rows.append(f"{json.dumps(name)}: {json.dumps(row)}")
    parser.parse_args().output.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
