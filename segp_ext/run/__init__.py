"""A run: its settings, its checks before a start, its folder, its evaluation and its identity."""
