"""TensorFlow without its notices; imported before Keras is."""

from __future__ import annotations

import os


def silence_tensorflow() -> None:
    """Hide what TensorFlow tells its developers, unless the user has set a level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
