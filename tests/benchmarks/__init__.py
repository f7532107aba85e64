"""Benchmarks: what the toolkit costs, next to what one would do without it. `python -m tests.benchmarks` runs them."""
