"""Fuzzing: hostile and damaged input of every kind against what reads it. ``python -m benchmarks.fuzz --list`` names the targets."""
