"""Side-by-side measurements; each prints a table and writes JSON. Run from the repository's root: ``python -m benchmarks.<name>``."""
