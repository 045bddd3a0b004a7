"""Maximum likelihood: fits of a tree, and a search for the tree."""

from lpnested.estimation.maximum_likelihood import fit
from lpnested.estimation.newton import Progress
from lpnested.estimation.result import FitResult
from lpnested.estimation.search import TreeFit, fit_tree

__all__ = ["FitResult", "Progress", "TreeFit", "fit", "fit_tree"]
