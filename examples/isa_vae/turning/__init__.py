"""The gain of a prior when a trained code is rotated."""
