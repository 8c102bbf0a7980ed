"""The JSON schema of a configuration, for editors that complete and check."""

from __future__ import annotations

from typing import Any

from reducible_train.config.models import config_model


def config_schema() -> dict[str, Any]:
    """The schema, as plain JSON values, with a description for every key.

    Point an editor at it from the first line of a file:
    `# yaml-language-server: $schema=schema.json`.

    >>> sorted(config_schema()["properties"])[:5]
    ['backup', 'checkpoint', 'compression', 'early_stopping', 'search_space']
    """
    schema = config_model().model_json_schema()
    _drop_titles(schema)
    title = "Configuration of reducible-train"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title} | schema


def _drop_titles(value: Any) -> None:
    """Remove the titles that pydantic derives from names: they repeat the keys."""
    if isinstance(value, dict):
        if isinstance(value.get("title"), str):
            del value["title"]
        for inner in value.values():
            _drop_titles(inner)
    elif isinstance(value, list):
        for inner in value:
            _drop_titles(inner)
