"""Writes nnU-Net's fingerprint of a dataset in its own layout, as tests/golden/nnunet_fingerprint_cardiac.json has it.

Run it with a Python that has nnunetv2 2.8.1 (an environment of its own; autounet is not needed):

    PEER_PYTHON benchmarks/golden/nnunet_fingerprint.py DATA/Dataset102_Cardiac tests/golden/nnunet_fingerprint_cardiac.json
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

PROCESSES = 2


def main() -> None:
    """Extracts it and writes one file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    dataset = arguments.dataset.resolve()
    with tempfile.TemporaryDirectory() as folder:
        for name, place in (("raw", dataset.parent), ("preprocessed", Path(folder)), ("results", Path(folder))):
            os.environ[f"nnUNet_{name}"] = str(place)
        from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

        extractor = DatasetFingerprintExtractor(dataset.name, PROCESSES)
        extractor.run(overwrite_existing=True)
        found = json.loads((Path(folder) / dataset.name / "dataset_fingerprint.json").read_text(encoding="utf-8"))
    # It draws equally many voxels from every case.
    drawn = int(extractor.num_foreground_voxels_for_intensitystats // len(extractor.dataset)) * len(extractor.dataset)
    values = {"cases": list(extractor.dataset), "voxels_drawn": drawn, **found}
    rows = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    arguments.output.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
