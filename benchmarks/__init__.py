"""Benchmarks of the ops, of a learner's phases and of whole runs: `python -m benchmarks.<module>`."""
