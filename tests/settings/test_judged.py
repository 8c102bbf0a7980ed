"""Laws of the cuts that can be judged where epochs are not all validated."""

from __future__ import annotations

import pytest

from reducible_train import Adaptive, Cadence, Guard, Search
from reducible_train.settings.compression import compression_settings
from reducible_train.settings.judged import last_judged

SETTLED = Cadence(start=Adaptive(start_epoch=5))
FIXED, LATE = Search(start_epoch=1, end_epoch=2), Search(start_epoch=4, end_epoch=4)


@pytest.mark.parametrize(
    ("asked", "epochs", "shown", "last"),
    [
        ({"budget": 0.5}, range(6), [0], None),
        ({"budget": 0.5}, range(6), [], None),
        ({"budget": 0.5}, range(6), [0, 2], 1),
        ({"budget": 0.5}, range(8), [3, 7], 4),
        ({"budget": 0.5}, range(8), range(8), 7),
        ({"budget": 0.5}, range(7, 8), range(8), None),  # what came before it has not seen
        ({"budget": 0.5, "cadence": Cadence(epochs=3)}, range(8), [3, 7], None),
        ({"budget": 0.5, "cadence": Cadence(epochs=3)}, range(8), [2, 3, 7], 3),
        ({"budget": 0.5, "cadence": Cadence(steps=2)}, range(8), [3, 7], 4),
        (
            {"budget": 0.5, "cadence": Cadence(start=Adaptive(start_epoch=5))},
            range(8),
            [3, 7],
            None,
        ),
        ({"search": FIXED}, range(8), [3, 7], None),
        ({"search": FIXED}, range(8), [1, 7], 2),
        ({"search": LATE}, range(8), [1, 7], None),
        ({"search": LATE}, range(8), [3, 7], 4),
    ],
)
def test_a_cut_can_stay_that_is_made_after_an_epoch_that_shows_the_metric_and_before_another(
    asked, epochs, shown, last
):
    settings = compression_settings("", asked, guard=Guard("val_loss", max_drop=0.1))
    assert last_judged(settings, epochs, shown) == last
