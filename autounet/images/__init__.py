"""Files ↔ (array, Grid): NIfTI, NRRD, MetaImage, TIFF, PNG, BMP, JPEG. The library of a format is imported on first use."""

from autounet.images.files import read_channels, read_image, read_labels, read_size, write_labels
from autounet.images.stored import check_finite

__all__ = ["check_finite", "read_channels", "read_image", "read_labels", "read_size", "write_labels"]
