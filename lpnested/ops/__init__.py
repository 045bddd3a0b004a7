"""The density over a tree and its sampler, with the backends that implement them."""
