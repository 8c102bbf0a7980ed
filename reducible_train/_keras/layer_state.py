"""What a layer hands to another one like it, as named arrays: variables, and Keras's own tables.

Most layers say it themselves (`save_own_variables`). Two kinds of Keras's own do not, or not
without loss, and are looked after here:

* A layer with LoRA adds its low-rank update to the kernel and gives no more than the sum; with
  zeros in both factors it could never be trained on. One that GPTQ or AWQ has quantized leaves
  out its zero points. The variables of these are kept as they are.
* A lookup layer keeps its vocabulary in a file of its own. Here integers are one array, and
  texts are two: their UTF-8 bytes, end to end, and where each ends. What comes from a file
  is no path and is never used as one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reducible_train._keras.layer_tree import walk
from reducible_train._keras.registry import is_of_keras
from reducible_train._keras.tracking import own_variables
from reducible_train._keras.values import host_value
from reducible_train.errors import FormatError

Values = Mapping[str, Any]  # the layer's own key -> variable or array

_VOCABULARY, _ENDS, _IDF = "vocabulary", "vocabulary_ends", "idf_weights"


@dataclass(frozen=True)
class Keeper:
    """How the state of a kind of layer of Keras's own is taken out and put back.

    Args:
        fits: True for the layers it knows.
        take: From a layer to what it keeps.
        put: The way back.
        lengths: True if the arrays may have other lengths in another layer of the same
            configuration.
        files: True if it takes the place of the layer's `save_assets`.
        whole: True if a layer has no variables but those that are taken.
    """

    fits: Callable[[Any], bool]
    take: Callable[[Any], Values]
    put: Callable[[Any, Values], None]
    lengths: bool = False
    files: bool = False
    whole: bool = True


def state_of(layer: Any) -> Values:
    """What a layer would save: its own key -> variable or array."""
    return _keeper(layer).take(layer)


def states_in(model: Any) -> Iterator[tuple[Any, Any]]:
    """What a file of a model holds, with the layer that gives it, as it does so.

    Of a layer whose own code fails, which a file refuses, these are its variables.
    """
    for layer in (model, *(layer for _, layer in walk(model))):
        try:
            given = list(state_of(layer).values())
        except Exception:  # a layer's own code
            given = own_variables(layer)
        yield from ((layer, value) for value in given)


def put_state(layer: Any, values: Values) -> None:
    """Give a layer what `state_of` took from one like it.

    Raises:
        FormatError: It does not fit a table of Keras's own.
    """
    _keeper(layer).put(layer, values)


def has_free_lengths(layer: Any) -> bool:
    """True if the lengths of what it keeps are told by no configuration."""
    return _keeper(layer).lengths


def keeps_files(layer: Any) -> bool:
    """True for a layer that would save files of its own which are not looked after here."""
    return hasattr(layer, "save_assets") and not _keeper(layer).files


def saves_all_variables(layer: Any) -> bool:
    """True for a layer whose variables are all in its `state_of`, or of no use to it."""
    return _keeper(layer).whole


def without_tables(config: Any) -> Any:
    """A configuration without the vocabularies in it, or the names of files with them.

    They are among the tensors of the file, so they need no room in its header. Nor do arrays of
    initializers, such as pretrained tables: zeros are in their place. A layer of a user's own
    keeps its arrays, as its code may read them.
    """
    return _without_tables(config, stock=False)


def _without_tables(config: Any, stock: bool) -> Any:
    """The same of a part of a configuration.

    Args:
        config: The part.
        stock: True if the innermost object that it is of is Keras's own, or of this package.
    """
    if isinstance(config, Mapping):
        if {"class_name", "config"} <= config.keys():
            stock = _is_stock_entry(config)
        plain = {
            key: _ZEROS
            if stock and _is_initial_array(key, value)
            else _without_tables(value, stock)
            for key, value in config.items()
        }
        if config.get("class_name") in _TABLES and config.get("module") == "keras.layers":
            dropped = dict.fromkeys({_VOCABULARY, _IDF} & plain["config"].keys())
            plain["config"] = plain["config"] | dropped
        return plain
    if isinstance(config, (list, tuple)):
        return [_without_tables(each, stock) for each in config]
    return config


def _keeper(layer: Any) -> Keeper:
    return next(keeper for keeper in _KEEPERS if keeper.fits(layer))


# --- arrays of initializers -----------------------------------------------------------------

# Arguments of Keras's layers, each for one of their variables. A layer of a user's own may use one
# of the same name for more.
_INITIAL = {
    f"{stem}_initializer"
    for stem in (
        *("kernel", "bias", "embeddings", "recurrent", "depthwise", "pointwise", "alpha"),
        *("gamma", "beta", "moving_mean", "moving_variance"),
    )
}
_ZEROS: dict[str, Any] = keras.initializers.serialize(keras.initializers.Zeros())
_PACKAGE = "reducible_train"
_FEW = 64  # entries of a configuration, which take no room to speak of


def _is_stock_entry(entry: Mapping[str, Any]) -> bool:
    """True for the entry of an object whose class is Keras's own, or of this package."""
    module, registered = str(entry.get("module")), entry.get("registered_name")
    if module.startswith("keras."):
        return registered in (None, entry["class_name"])
    return module.startswith(f"{_PACKAGE}.") and str(registered).startswith(f"{_PACKAGE}>")


def _is_initial_array(key: str, value: Any) -> bool:
    """True for an entry of a configuration that is an initializer with an array in it."""
    is_initial = key in _INITIAL and isinstance(value, Mapping) and "class_name" in value
    return is_initial and any(True for _ in itertools.islice(_entries(value), _FEW, None))


def _entries(value: Any) -> Iterator[object]:
    """All that a nested value is made of in the end."""
    if isinstance(value, (Mapping, list, tuple)):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _entries(each)
    else:
        yield value


# --- what a layer saves by itself -----------------------------------------------------------


def _saved(layer: Any) -> Values:
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    return store


def _load(layer: Any, values: Values) -> None:
    layer.load_own_variables(values)


# --- LoRA, GPTQ, AWQ ------------------------------------------------------------------------


def _keeps_variables(layer: Any) -> bool:
    altered = getattr(layer, "lora_enabled", False) or _calibration(layer)
    return bool(altered) and is_of_keras(type(layer).save_own_variables)


def _calibration(layer: Any) -> str | None:
    """The attribute by which a layer of Keras knows that it computes with quantized numbers."""
    mode = getattr(layer, "quantization_mode", None)
    return f"is_{mode}_calibrated" if mode in ("gptq", "awq") else None


def _variables(layer: Any) -> Values:
    """Its variables by name; of those that calibration left, the ones it computes with."""
    if _calibration(layer):
        names = layer.variable_serialization_spec[layer.quantization_mode]
        attributes = {name: getattr(layer, name, None) for name in names}
        return {name: each for name, each in attributes.items() if each is not None}
    return {variable.name: variable for variable in own_variables(layer)}


def _assign(layer: Any, values: Values) -> None:
    for name, variable in _variables(layer).items():
        variable.assign(values[name])
    calibration = _calibration(layer)
    if calibration is not None:
        setattr(layer, calibration, True)  # only then does Keras let a model be saved at all


# --- lookup tables --------------------------------------------------------------------------

_TABLES = ("IntegerLookup", "StringLookup", "TextVectorization")


def _is_lookup(layer: Any) -> bool:
    return _is_stock(layer, keras.layers.StringLookup, keras.layers.IntegerLookup)


def _is_text(layer: Any) -> bool:
    return _is_stock(layer, keras.layers.TextVectorization)


def _is_stock(layer: Any, *kinds: type) -> bool:
    """True if the layer, or the class it comes from, saves as Keras wrote it."""
    saves: Any = getattr(type(layer), "save_assets", None)
    return isinstance(layer, kinds) and is_of_keras(saves)


def _table_of(layer: Any) -> Values:
    words = layer.get_vocabulary(include_special_tokens=True)
    if isinstance(layer, keras.layers.IntegerLookup):
        table: dict[str, Any] = {_VOCABULARY: np.array(words, np.int64)}
    else:
        texts = [_bytes_of(word, layer) for word in words]
        table = {
            _VOCABULARY: np.frombuffer(b"".join(texts), np.uint8),
            _ENDS: np.cumsum([len(text) for text in texts], dtype=np.int64),
        }
    if layer.output_mode == "tf_idf":
        weights = getattr(layer, "idf_weights_const", np.empty(0, np.float32))
        table[_IDF] = host_value(weights)
    return table


def _bytes_of(word: Any, layer: Any) -> bytes:
    try:
        return str(word).encode()
    except UnicodeError as error:
        raise FormatError(
            f"The vocabulary of layer '{layer.name}' must be of texts that UTF-8 can spell. "
            f"Received: {word!r}. Take the word out, or use model.save."
        ) from error


def _put_table(layer: Any, values: Values) -> None:
    words = _words(layer, {key: np.asarray(value) for key, value in values.items()})
    weights = values.get(_IDF)
    known = layer.get_vocabulary(include_special_tokens=True)
    if words == known and (weights is None or not np.size(weights)):
        return  # it may be empty, which set_vocabulary does not take
    if weights is not None:
        weights = np.asarray(weights)[: len(words)]  # behind them is padding
    try:
        layer.set_vocabulary(words, weights)
    except (ValueError, RuntimeError, TypeError) as error:
        raise FormatError(
            f"The vocabulary in the file does not fit layer '{layer.name}': {error}"
        ) from error


def _words(layer: Any, table: Mapping[str, np.ndarray]) -> list[Any]:
    vocabulary, ends = table[_VOCABULARY], table.get(_ENDS)
    if isinstance(layer, keras.layers.IntegerLookup):
        _check(layer, vocabulary.dtype == np.int64, "whole numbers in one row")
        return list(vocabulary.tolist())
    _check(layer, vocabulary.dtype == np.uint8, "bytes in one row")
    ends = np.empty(0) if ends is None else ends
    data, stops = vocabulary.tobytes(), ends.tolist()
    in_order = ends.dtype == np.int64 and stops == sorted(stops) and min(stops, default=0) >= 0
    _check(layer, in_order and (stops or [0])[-1] == len(data), "ends of words, in order")
    try:
        return [data[i:j].decode() for i, j in zip([0, *stops], stops, strict=False)]
    except UnicodeDecodeError as error:
        raise FormatError(_expected(layer, "words in UTF-8")) from error


def _check(layer: Any, good: bool, wanted: str) -> None:
    if not good:
        raise FormatError(_expected(layer, wanted))


def _expected(layer: Any, wanted: str) -> str:
    return (
        f"The vocabulary of layer '{layer.name}' must be {wanted}. Received: something else; the "
        "file was altered. Get it again."
    )


_KEEPERS = (
    Keeper(_keeps_variables, _variables, _assign),
    Keeper(_is_lookup, _table_of, _put_table, lengths=True, files=True),
    # Its words are those of the lookup layer in it.
    Keeper(_is_text, lambda layer: {}, lambda layer, values: None, files=True),
    Keeper(lambda layer: True, _saved, _load, whole=False),
)
