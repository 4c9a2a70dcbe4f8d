"""nnU-Net's own trained models, predicted by nnU-Net and by us."""

import json
from pathlib import Path

from benchmarks.peer_dataset import as_nnunet_raw

DATASETS = ("Task04_Hippocampus", "Dataset101_EM", "Dataset102_Cardiac")

VARIANTS = {
    "Dataset904_HippocampusRegions": {"labels": {"background": 0, "whole": [1, 2], "posterior": 2}, "regions_class_order": [1, 2]},
    "Dataset905_HippocampusCascade": {},
}
"""Smaller copies of Hippocampus, and what their dataset.json says otherwise."""

VARIANT_CASES = 16


def make_raw(data: Path, raw: Path) -> None:
    """nnU-Net's raw folders of all datasets that are not there yet."""
    for name in DATASETS:
        number = int("".join(letter for letter in name.partition("_")[0] if letter.isdigit()))
        if not any(raw.glob(f"Dataset{number:03d}_*")):
            as_nnunet_raw(data / name, raw)
    whole = raw / "Dataset004_Hippocampus"
    for name, changes in VARIANTS.items():
        if (raw / name).exists():
            continue
        for part in ("imagesTr", "labelsTr"):
            (raw / name / part).mkdir(parents=True)
            for file in sorted((whole / part).iterdir())[:VARIANT_CASES]:
                (raw / name / part / file.name).symlink_to(file)
        about = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
        (raw / name / "dataset.json").write_text(json.dumps(about | {"numTraining": VARIANT_CASES} | changes), encoding="utf-8")
