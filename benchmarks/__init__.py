"""Micro-benchmarks of the ops: `python -m benchmarks.bench_<op>`."""
