"""The configuration of a command, with what its options say in place of the file."""

from __future__ import annotations

from pathlib import Path

from reducible_train.config import Config, load_config

_OPTIONS = {"training.epochs": "--epochs", "tensorboard.log_dir": "--log-dir"}


def configured(file: Path, epochs: int | None, log_dir: str | None = None) -> Config:
    """What a file says, but for options that were given.

    Raises:
        FileAccessError: The file cannot be read.
        ConfigError: It, or an option, has mistakes.
    """
    asked = dict(zip(_OPTIONS, (epochs, log_dir), strict=True))
    given = {key: value for key, value in asked.items() if value is not None}
    return load_config(file, given, _OPTIONS)
