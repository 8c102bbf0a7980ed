"""What ends a search before its first trial, where each of its trials would fail, and warnings."""

from __future__ import annotations

from keras_tuner.errors import FatalValueError

from reducible_train.errors import ArgumentError


class SearchError(ArgumentError, FatalValueError):
    """A mistake of the whole search: keras-tuner ends it, and counts no failed trial."""


class MendedWarning(UserWarning):
    """A file of a search was set aside, and its trial runs again."""
