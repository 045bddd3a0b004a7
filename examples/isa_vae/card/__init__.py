"""The runs of the paper's own size, side by side on one GPU."""
