"""Figures of sweeps, and the report that contains them."""
