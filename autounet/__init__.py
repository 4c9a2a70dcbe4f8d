"""autounet: a self-configuring pipeline for biomedical image segmentation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autounet.inference import Predictor, SpacingZYX

__version__ = "0.1.0"

__all__ = ["Predictor", "SpacingZYX", "__version__"]


def __getattr__(name: str) -> Any:
    """The Python interface, loaded on first use: it needs torch, which help and planning do without."""
    if name in ("Predictor", "SpacingZYX"):
        from autounet import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'autounet' has no attribute {name!r}")
