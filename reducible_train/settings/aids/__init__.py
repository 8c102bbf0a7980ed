"""Aids: what helps a training while ranks fall.

Every module in this package is imported, so a new kind of aid is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil

from reducible_train.settings.aids.base import (
    Aid,
    AidContext,
    aid_kinds,
    checked_aids,
    checked_needs,
)
from reducible_train.settings.aids.product_decay import ProductDecay
from reducible_train.settings.aids.regrow import Regrow
from reducible_train.settings.aids.rewarm import Rewarm
from reducible_train.settings.aids.tail_shrink import TailShrink

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "Aid",
    "AidContext",
    "ProductDecay",
    "Regrow",
    "Rewarm",
    "TailShrink",
    "aid_kinds",
    "checked_aids",
    "checked_needs",
]
