"""What TensorBoard loads when it starts; an error here would end it, so there is nothing here."""

from __future__ import annotations

from typing import Any

from tensorboard.plugins import base_plugin

_SAMPLES = 1000  # points of each tensor that a server keeps; its own default is 10 or 100


class ReducibleLoader(base_plugin.TBLoader):
    """Loads the tab, or leaves it out with a word if it cannot be loaded."""

    def fix_flags(self, flags: Any) -> None:
        """Have every cut kept, unless the user says otherwise."""
        samples = getattr(flags, "samples_per_plugin", None)
        if isinstance(samples, dict):
            samples.setdefault("reducible", _SAMPLES)

    def load(self, context: Any) -> Any:
        """The tab; `None` if this package is broken, and everything else goes on."""
        try:
            from reducible_train.tensorboard.plugin.server import ReducibleTab  # noqa: PLC0415

            return ReducibleTab(context)
        except Exception as error:
            import logging  # noqa: PLC0415 (only then)

            logging.getLogger("tensorboard").warning(
                "The tab 'Reducible' is left out, as reducible-train cannot be loaded: %s: %s",
                type(error).__name__,
                error,
            )
            return None
