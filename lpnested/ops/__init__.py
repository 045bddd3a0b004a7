"""One operation, the density over a tree, and the backends that work it out."""
