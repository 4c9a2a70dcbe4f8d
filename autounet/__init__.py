"""autounet: a self-configuring pipeline for biomedical image segmentation."""

__version__ = "0.1.0"
