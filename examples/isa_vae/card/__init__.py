"""Training at the paper's own size, several runs side by side on one GPU."""
