"""What the tests of judges share."""

from __future__ import annotations

import pytest


@pytest.fixture
def own_targets(monkeypatch):
    """Gradients of the loss alone, without that of other samples' targets beside."""
    monkeypatch.setattr("reducible_train.selection.statistics._OTHERS", 0.0)
