"""Choosing among what is trained, on label maps that are there."""
