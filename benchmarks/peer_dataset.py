"""A dataset in nnU-Net's layout, as links to the files of one in the Decathlon's or nnU-Net's own."""

import json
import re
from pathlib import Path
from typing import Any

from autounet.dataset import Case, DatasetSpec, read_dataset


def as_nnunet_raw(dataset: Path, raw: Path) -> tuple[int, str]:
    """Writes ``raw/DatasetNNN_Name`` with ``imagesTr/<case>_0000.<ending>``, ``labelsTr`` and dataset.json.

    Args:
        dataset: Folder that autounet can read.
        raw: nnU-Net's folder of raw datasets.

    Returns:
        The dataset's number, and its folder's name.
    """
    spec = read_dataset(dataset.resolve())
    match = re.match(r"(?:Task|Dataset)0*(\d+)_?(.*)", spec.name)
    number, name = (int(match[1]), match[2] or "data") if match else (999, re.sub(r"\W", "", spec.name) or "data")
    folder = raw / f"Dataset{number:03d}_{name}"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in spec.cases:
        _link_case(case, spec, folder)
    (folder / "dataset.json").write_text(json.dumps(_dataset_json(spec), indent=1), encoding="utf-8")
    return number, folder.name


def _link_case(case: Case, spec: DatasetSpec, folder: Path) -> None:
    (folder / "labelsTr" / f"{case.id}{spec.file_ending}").symlink_to(case.label)
    files = [folder / "imagesTr" / f"{case.id}_{channel:04d}{spec.file_ending}" for channel in range(len(spec.channels))]
    if len(case.images) == len(files) and not _is_4d(case.images[0]):
        for image, file in zip(case.images, files, strict=True):
            file.symlink_to(image)
        return
    import nibabel

    channels: Any = nibabel.load(case.images[0])
    for channel, file in enumerate(files):
        nibabel.save(channels.slicer[..., channel], file)


def _is_4d(path: Path) -> bool:
    if not path.name.endswith((".nii", ".nii.gz")):
        return False
    import nibabel

    image: Any = nibabel.load(path)
    return len(image.shape) == 4


def _dataset_json(spec: DatasetSpec) -> dict[str, object]:
    original = json.loads((spec.root / "dataset.json").read_text(encoding="utf-8"))
    if "channel_names" in original:
        return {**original, "numTraining": len(spec.cases), "file_ending": spec.file_ending}
    return {
        "channel_names": {str(channel): name for channel, name in enumerate(spec.channels)},
        "labels": {name: int(value) for value, name in original["labels"].items()},
        "numTraining": len(spec.cases),
        "file_ending": spec.file_ending,
    }
