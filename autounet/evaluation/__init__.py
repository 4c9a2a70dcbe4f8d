"""Scores of predictions against the truth: per case and class, their means, and the stated policy for empty masks."""
