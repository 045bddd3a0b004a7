"""Sweeps: the experiments, the workers that run them, and the rows of results."""
