"""Scores of predictions against the truth: per case and class, their means, and the stated policy for empty masks."""

from autounet.evaluation.folders import evaluate_cases, evaluate_folders
from autounet.evaluation.scores import Scores

__all__ = ["Scores", "evaluate_cases", "evaluate_folders"]
