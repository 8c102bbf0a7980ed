"""What names of metrics tell: their last word counts, and no word that is only in another."""

from __future__ import annotations

import pytest

from reducible_train.settings.metric_names import direction_by_name, is_fraction_by_name
from reducible_train.settings.monitors import percent_fault

SMALL = (
    "val_loss",
    "val_gloss_loss",
    "loss1",
    "accuracy/loss",
    "top_5_error",
    "valLoss",
    "RMSELoss",
    "mean_absolute_error_1",
    "binary_crossentropy",
    "KLDivergence",
    "head-mae",
    "brier_score",
    "false_positives",
    "val_nrmse",
    "bboxloss",
    "sparsecategoricalcrossentropy",
    "val_loss_dice",
    "loss_iou",
)
FRACTIONS = (
    "val_gloss_accuracy",
    "val_terrain_accuracy",
    "val_cherry_acc",
    "loss_auc",
    "accuracy_2",
    "val_mean_io_u",
    "MeanIoU",
    "f1_score",
    "val_f1score",
    "gloss_iou",
    "mse/precision",
    "top_k_categorical_accuracy",
)
OTHERS = ("quality", "gloss", "distance_r2_score", "cosine_similarity", "account", "vaccine")


@pytest.mark.parametrize("names", [SMALL, FRACTIONS, OTHERS], ids=["small", "fractions", "others"])
def test_the_last_word_that_tells_counts(names):
    assert {direction_by_name(name) for name in names} == {-1 if names is SMALL else 1}
    assert {is_fraction_by_name(name) for name in names} == {names is FRACTIONS}


def test_a_bound_in_percent_is_refused_for_fractions_alone():
    assert "For 5 % write 0.05" in (percent_fault("max_drop", 5, "val_gloss_accuracy") or "")
    assert percent_fault("max_drop", 5, "val_recall_mean_absolute_error") is None
