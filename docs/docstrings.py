"""Docstrings as the site reads them: what griffe calls `Examples:` is `Example:` here."""

from typing import Any

from griffe import Extension, Object


class ExamplesSection(Extension):
    """Renames the heading, so that an example is shown as code."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
