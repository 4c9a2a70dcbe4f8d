"""From images and weights to label maps on the original grid, and their scores."""

from autounet.inference.predictor import Predictor, SpacingZYX

__all__ = ["Predictor", "SpacingZYX"]
