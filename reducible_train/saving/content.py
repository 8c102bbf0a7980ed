"""What the header of a compact file tells of its model, beside the tensors."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from typing import Any

from reducible_train import _keras
from reducible_train.container import Header
from reducible_train.errors import FormatError, shortened
from reducible_train.saving.way_back import WayBack

# What it must have, of which types.
_KINDS: dict[str, Any] = {
    "keras_config": (dict, type(None)),
    "model": dict,
    "plan": dict,
    "report": (dict, type(None)),
    "versions": dict,
}
_CONTENT_VERSION = 1


def content_of(header: Header) -> Mapping[str, Any]:
    """The content of a file that holds a model.

    `version` is told from the second version on; a file without it is of the first. A new
    key needs no new version: who does not know it refuses the file by itself.
    """
    content = header.content
    missing = [key for key in _KINDS if key not in content]
    if missing:
        raise FormatError(
            f"The file does not hold a model: its header must have {', '.join(_KINDS)}. "
            f"Received: no {', '.join(missing)}."
        )
    strange = [key for key, kind in _KINDS.items() if not isinstance(content[key], kind)]
    if strange:
        raise FormatError(
            f"The file does not hold a model: its header has no usable {', '.join(strange)}. The "
            "file was altered; get it again."
        )
    unknown = [key for key in content if key not in _KINDS and key != "version"]
    if unknown or content.get("version", _CONTENT_VERSION) != _CONTENT_VERSION:
        raise _newer(content, unknown)
    return content


def _newer(content: Mapping[str, Any], unknown: Sequence[str]) -> FormatError:
    by, here = shortened(str(content["versions"].get("reducible_train")), 40), own_version()
    told = ", ".join(map(repr, unknown)) or f"content of version {content['version']!r}"
    return FormatError(
        f"The file was written by a newer version of reducible-train ({by}): it holds "
        f"{shortened(told, 200)}, which version {here} does not know. Upgrade with "
        "`pip install -U reducible-train`."
    )


def own_version() -> str:
    return importlib.metadata.version("reducible-train")


def no_configuration(path: str | os.PathLike[str], content: Mapping[str, Any]) -> FormatError:
    kind = shortened(str(content["model"].get("class")))
    reason = content["model"].get("reason")
    why = f": {shortened(reason, 1000)}" if isinstance(reason, str) else "."
    return FormatError(
        f"{path} cannot rebuild its model of class {kind!r} from a configuration{why} "
        "Build the model by its class, call it once on data, and use "
        "load_weights_into(model, file)."
    )


def described(model: Any, back: WayBack) -> dict[str, Any]:
    """What the file says of the model; names that Keras counts up, without their number."""
    name = _keras.automatic_stem(model) or model.name
    described = {"name": name, "class": type(model).__name__}
    return described if back.reason is None else described | {"reason": back.reason}
