"""Change the variables that a live optimizer works on."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src import backend as _backend
from keras.src.utils.tracking import DotNotTrackScope

from reducible_train._keras.functions import compiled_optimizer, strategy_scope
from reducible_train._keras.slots import slots
from reducible_train._keras.values import host_value

_CLOCKS = ("_iterations", "_learning_rate")  # of an optimizer

Heirs = Sequence[tuple[Any, Sequence[Any]]]  # each new variable, with those it follows


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers a wrapper (LossScaleOptimizer, MultiOptimizer) drives."""
    inner = getattr(optimizer, "inner_optimizer", None)
    return [inner] if inner is not None else list(getattr(optimizer, "_inner_optimizers", []))


def all_optimizers(optimizer: Any) -> list[Any]:
    """An optimizer and all that it wraps."""
    inner = [o for one in inner_optimizers(optimizer) for o in all_optimizers(one)]
    return [optimizer, *inner]


def built_optimizer(model: Any) -> Any | None:
    """The optimizer of a compiled model, built if it is not; `None` of one not compiled."""
    optimizer = compiled_optimizer(model)
    if optimizer is not None and not optimizer.built:
        with strategy_scope(model), build_scope(optimizer):
            optimizer.build(model.trainable_variables)
    return optimizer


def trained_by(optimizer: Any, variables: Sequence[Any]) -> bool:
    """True of an optimizer that was built on one of some variables, or was told about one."""
    if not getattr(optimizer, "built", False):
        told = getattr(optimizer, "_exclude_from_weight_decay", None) or ()
        return bool(told) and any(optimizer._var_key(variable) in told for variable in variables)
    ids = {id(variable) for variable in variables}
    return any(id(variable) in ids for variable in optimizer._trainable_variables)


def trainable_of(optimizer: Any) -> list[Any]:
    """The variables an optimizer was built on, in its order."""
    return list(optimizer._trainable_variables)


def knows_variables(optimizer: Any, model: Any) -> bool:
    """False for one that was built without a model's variables, and would refuse them.

    `load_model` gives such a one for a `.h5` file of a model that was compiled and never trained.
    """
    if not optimizer.built:
        return True
    known = {id(variable) for variable in trainable_of(optimizer)}
    return all(id(variable) in known for variable in model.trainable_variables)


def timeless_state(
    optimizer: Any, variables: Sequence[Any] | None = None
) -> Iterator[tuple[str, Any]]:
    """All variables of an optimizer and of those it wraps, but step counts and learning rates.

    Each with a name for its place: the paths of some (Adafactor's, Nadam's) depend on
    where the optimizer was built, and wrappers name those of the inner optimizers twice.

    Args:
        optimizer: A built optimizer.
        variables: Of an optimizer that trains others, too, no more than what belongs to these.

    Yields:
        Name and variable.
    """
    ids = {id(variable) for variable in optimizer._trainable_variables}
    counted = ids if variables is None else ids & {id(variable) for variable in variables}
    for number, each in enumerate(all_optimizers(optimizer)):
        for attribute, values in slots(each).items():
            for of, value in zip(each._trainable_variables, values, strict=True):
                if value is not None and id(of) in counted:
                    yield f"{number}/{attribute}/{of.path}", value
        for attribute, value in vars(each).items() if counted == ids else ():
            if isinstance(value, keras.Variable) and attribute not in _CLOCKS:
                yield f"{number}/{attribute}", value


def unbuild(optimizer: Any) -> Callable[[], None]:
    """Empty an optimizer's bookkeeping in place, so that `build` may run once more.

    Keeps the object, `iterations` and the learning-rate variable, which callbacks and
    schedules hold. The answer restores scalar state (`Nadam`'s, the loss scale) after
    the new build.
    """
    scalars = {
        name: host_value(value)
        for name, value in vars(optimizer).items()
        if isinstance(value, keras.Variable) and name not in _CLOCKS
    }
    keep_ids = {id(optimizer._iterations), id(getattr(optimizer, "_learning_rate", None))}
    kept = [v for v in optimizer._variables if id(v) in keep_ids]
    test, _ = optimizer._tracker.config["variables"]
    with DotNotTrackScope():
        optimizer._variables = kept
        optimizer._trainable_variables = []
        optimizer._trainable_variables_indices = {}
        optimizer.built = False
    optimizer._tracker.config["variables"] = (test, optimizer._variables)
    optimizer._tracker.stored_ids["variables"] = {id(v) for v in kept}

    def restore_scalars() -> None:
        for name, value in scalars.items():
            getattr(optimizer, name).assign(value)

    return restore_scalars


def unbuild_all(optimizer: Any) -> None:
    """Let an optimizer and those it drives be as before their first step, but for their clocks."""
    for each in all_optimizers(optimizer):
        unbuild(each)


@contextlib.contextmanager
def same_inner_optimizers(optimizer: Any, heirs: Heirs) -> Iterator[None]:
    """Within it, a MultiOptimizer gives every variable the optimizer it had.

    Its own map may be a function that makes a new optimizer at each call, which would
    lose all state when the optimizer is built again. Other optimizers are left alone.
    """
    with contextlib.ExitStack() as stack:
        for each in all_optimizers(optimizer):
            if hasattr(each, "_var_to_optimizer_idx"):
                stack.enter_context(_same_choices(each, heirs))
        yield


@contextlib.contextmanager
def _same_choices(optimizer: Any, heirs: Heirs) -> Iterator[None]:
    inner = list(optimizer._inner_optimizers)
    chosen = {
        id(v): inner[optimizer._var_to_optimizer_idx[optimizer._var_key(v)]]
        for v in optimizer._trainable_variables
    }
    for new, old in heirs:
        chosen.update({id(new): chosen[id(v)] for v in old if id(v) in chosen})
    original = optimizer._optimizer_map
    optimizer.__dict__["_optimizer_map"] = lambda v: chosen.get(id(v)) or original(v)
    try:
        yield
    finally:
        optimizer.__dict__["_optimizer_map"] = original


def build_scope(optimizer: Any) -> contextlib.AbstractContextManager[Any]:
    """The name scope a built optimizer was built in, for the next `build`: paths stay.

    A wrapper opens one for the optimizer inside at a first step, and none where Keras
    builds it before that (JAX, torch, any MultiOptimizer): its slots' paths tell.
    """
    inner = [slot for one in all_optimizers(optimizer)[1:] for slot in _all_slots(one)]
    if any(variable.path.startswith(f"{optimizer.name}/") for variable in inner):
        scope: contextlib.AbstractContextManager[Any]
        scope = _backend.name_scope(optimizer.name, caller=optimizer)
        return scope
    return contextlib.nullcontext()


def _all_slots(optimizer: Any) -> list[Any]:
    return [slot for each in slots(optimizer).values() for slot in each if slot is not None]


def inherit_settings(optimizer: Any, heirs: Heirs) -> None:
    """Let variables inherit what an optimizer, built or not, was told about those they follow.

    That is an exclusion from weight decay, by the variable or by its name, and the choice of a
    MultiOptimizer. Keras keeps keys of variables and patterns for names and paths, which say
    nothing of new ones.
    """
    for each in all_optimizers(optimizer):
        _inherit_weight_decay(each, heirs)
        if hasattr(each, "_optimizer_map"):
            _inherit_choices(each, heirs)


def _inherit_weight_decay(optimizer: Any, heirs: Heirs) -> None:
    excluded = set(getattr(optimizer, "_exclude_from_weight_decay", ()))
    told = excluded or getattr(optimizer, "_exclude_from_weight_decay_pattern", None) is not None
    cache = dict(getattr(optimizer, "_exclude_from_weight_decay_cache", {}))
    decays = [any(decays_in(optimizer, v) for v in old) for _, old in heirs] if told else []
    gone = {optimizer._var_key(v) for _, old in heirs for v in old}
    excluded, cache = excluded - gone, {k: v for k, v in cache.items() if k not in gone}
    for (new, _), decay in zip(heirs, decays, strict=bool(told)):
        key = optimizer._var_key(new)
        cache[key] = decay  # asked before the names are
        if not decay:
            excluded.add(key)
    if told:
        optimizer._exclude_from_weight_decay = excluded
    optimizer._exclude_from_weight_decay_cache = cache


def decays_in(optimizer: Any, variable: Any) -> bool:
    """Whether an optimizer lets weight decay act on a variable.

    That of TensorFlow asks with the backend's own variable, whose name is the path; the others
    with Keras's, whose name is `kernel` in every layer.
    """
    on_tensorflow = keras.backend.backend() == "tensorflow"
    asked: bool = optimizer._use_weight_decay(variable.value if on_tensorflow else variable)
    return asked


DecayExclusions = Sequence[tuple[Any, Sequence[bool]] | None]  # a pattern; what decays


def decay_exclusions(optimizers: Sequence[Any], variables: Sequence[Any]) -> DecayExclusions:
    """What optimizers and those they drive were told about weight decay, as no file holds it.

    Args:
        optimizers: The optimizers.
        variables: All of their model, in its order.
    """
    return [_told_of_decay(each, variables) for each in _stepping(optimizers)]


def exclude_from_decay(
    optimizers: Sequence[Any], exclusions: DecayExclusions, variables: Sequence[Any]
) -> None:
    """Tell new optimizers what others were told about the same variables of theirs."""
    for each, told in zip(_stepping(optimizers), exclusions, strict=False):
        if told is not None:
            pattern, decays = told
            known = zip(variables, decays, strict=False)
            cache = {each._var_key(variable): decay for variable, decay in known}
            each._exclude_from_weight_decay = {key for key, decay in cache.items() if not decay}
            each._exclude_from_weight_decay_pattern = pattern
            each._exclude_from_weight_decay_cache = cache


def _stepping(optimizers: Sequence[Any]) -> list[Any]:
    """The optimizers and those they drive, but a LossScaleOptimizer, which may come and go."""
    every = [each for one in optimizers for each in all_optimizers(one)]
    return [each for each in every if not isinstance(each, keras.optimizers.LossScaleOptimizer)]


def _told_of_decay(optimizer: Any, variables: Sequence[Any]) -> tuple[Any, Sequence[bool]] | None:
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    if pattern is None and not getattr(optimizer, "_exclude_from_weight_decay", None):
        return None
    return pattern, [decays_in(optimizer, each) for each in variables]


def _inherit_choices(optimizer: Any, heirs: Heirs) -> None:
    """A map by path gets the paths of new variables; a function is asked about the old ones."""
    chosen = optimizer._optimizer_map
    if isinstance(chosen, keras.optimizers.OptimizerMap):
        known = dict(chosen._optimizer_map)
        known.update({new.path: chosen[old[0].path] for new, old in heirs})
        chosen = copy.copy(chosen)
        chosen._optimizer_map = {
            path: each
            for path, each in known.items()
            if path in optimizer._optimizer_map
            or not _chooses(optimizer._optimizer_map, path, each)
        }
    elif not optimizer.built:
        origins = {id(new): old[0] for new, old in heirs}
        asked = chosen

        @functools.wraps(asked)
        def chosen(variable: Any) -> Any:
            return asked(origins.get(id(variable), variable))

    optimizer.__dict__["_optimizer_map"] = chosen


def _chooses(chosen: Any, path: str, optimizer: Any) -> bool:
    try:
        return chosen[path] is optimizer
    except ValueError:  # several patterns match
        return False
