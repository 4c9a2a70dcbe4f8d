"""Names of cases for DICOM images in a tree of folders: after the folder, or what tells several in one folder apart."""

from collections import Counter
from pathlib import Path

from autounet.image_names import split_ending
from autounet.images.dicom_series import Series, find_series


def dicom_cases(root: Path) -> dict[Path, str]:
    """All DICOM images below a folder or in a zip, each with the name of its case.

    A folder with one image gives its name, ``patient1_CT`` for ``patient1/CT``; of several in one folder each adds its series number or,
    where it is one file, the file's name. Names are made of folders and files, never of what headers tell of the patient.

    Returns:
        Path to give for the image → name.

    Raises:
        ImageError: A zip cannot be opened.
    """
    found = find_series(root)
    names = {series.path: _name(series, root) for series in found}
    counts = Counter(names.values())
    seen: Counter[str] = Counter()
    for path, name in names.items():
        if counts[name] > 1:
            seen[name] += 1
            names[path] = f"{name}_{seen[name]}"
    return names


def _name(series: Series, root: Path) -> str:
    top = split_ending(root.resolve())[0]
    is_file = series.path in series.files
    folder = series.path.parent if is_file else series.path
    parts = [*([top] if root.is_file() else []), *folder.relative_to(root).parts]
    if series.path == root and root.is_dir() and len(series.files) == 1:
        return _stem(series.files[0])  # as it would be named with others beside it
    if not is_file:
        return "_".join(parts) or top
    return "_".join([*parts, _stem(series.path) if len(series.files) == 1 or series.number is None else str(series.number)])


def _stem(file: Path) -> str:
    return split_ending(file)[0]
