"""Figures of sweeps, and the report that holds them."""
