"""What the name of a metric tells of it, where nobody says more."""

from __future__ import annotations

import re

# Of metrics that lie between 0 and 1, Keras's and those that people use.
FRACTIONS = (
    r"acc|accuracy|auc|precision|recall|sensitivity|specificity|io_?u|f1|f1_?score|fbeta_score|"
    r"dice|top_?\d+"
)
# Of those that should be small; all others should be large.
_SMALL = (
    r"[a-z]*(?:(?<![fg])loss(?:es)?|errors?|mae|mse|mape|msle|entropy)|err|nll|"
    r"negative_log_likelihood|perplexity|ppl|bce|cce|ce|kld?|divergence|hinge|"
    r"poisson|distance|huber|log_?cosh|wer|cer|brier(?:_score)?|false"
)
_LARGE = r"score|similarity|correlation|coefficient|r2|kappa|bleu|psnr|ssim|ndcg|reward"

_WORD = re.compile(
    rf"(?<![a-z])(?:(?P<small>{_SMALL})|(?P<fraction>(?:{FRACTIONS})(?:_score|_coefficient)?)"
    rf"|(?P<large>{_LARGE}))(?![a-z])"
)
_LOSS_OF = re.compile(r"^(?:val_)?loss[_/-](?:io_?u|dice)$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # of valLoss, RMSELoss


def direction_by_name(name: str) -> int:
    """1 if a metric should be large, -1 if small, by the last word that tells.

    The first words may be the name of an output.

    Example:
        >>> [direction_by_name(name) for name in ("val_gloss_accuracy", "val_loss", "terrain/AUC")]
        [1, -1, 1]
        >>> [direction_by_name(name) for name in ("totalloss", "brier_score", "val_loss_dice")]
        [-1, -1, -1]
    """
    return -1 if _kind(name) == "small" else 1


def is_fraction_by_name(name: str) -> bool:
    """True for a metric that lies between 0 and 1, by the same word.

    Example:
        >>> [is_fraction_by_name(name) for name in ("val_f1_score", "MeanIoU", "vaccine_loss")]
        [True, True, False]
    """
    return _kind(name) == "fraction"


def _kind(name: str) -> str | None:
    """What the last word says that says anything; of a loss, the words behind may name which."""
    words = _HUMP.sub("_", name).lower()
    if _LOSS_OF.search(words):
        return "small"
    found = None
    for each in _WORD.finditer(words):
        found = each.lastgroup
    return found
