"""What each kernel of a model is worth, measured by cutting it alone."""

from reducible_train.analysis.measuring import analyze

__all__ = ["analyze"]
