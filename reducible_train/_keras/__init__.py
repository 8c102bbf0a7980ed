"""The one door to Keras's private attributes: a function for each need.

Everything here reaches behind Keras's public interface because the public way
does not do what surgery on a live model needs; each function says why. When
Keras moves, only this package and its test have to follow.
"""

from reducible_train._keras.calls import (
    Call,
    assigned_in_calls,
    fixed_batch,
    known_inputs,
    trace_calls,
)
from reducible_train._keras.classes import become, reclass, seen_as, unpickler
from reducible_train._keras.compiling import compiled
from reducible_train._keras.copying import (
    copy_state,
    fresh_input_layers,
    rerun_graph,
    runs_its_graph,
)
from reducible_train._keras.data import (
    before_step,
    loss_gradients,
    output_gradients,
    sample_batches,
    tapped,
)
from reducible_train._keras.fits import begin_at, companions
from reducible_train._keras.functions import (
    compares_with_targets,
    compiled_optimizer,
    is_distributed,
    part_in_training,
    renew_functions,
    settle,
    strategy_scope,
)
from reducible_train._keras.layer_tree import (
    automatic_stem,
    children,
    has_weights,
    is_graph_model,
    saves_its_layers,
    seen_as_built,
    unbuilt_parts,
    walk,
)
from reducible_train._keras.learning_rate import end_warm_up, warm_up_learning_rate
from reducible_train._keras.memory import release
from reducible_train._keras.metrics import logged_metrics
from reducible_train._keras.optimizers import (
    all_optimizers,
    build_scope,
    built_optimizer,
    inner_optimizers,
    knows_variables,
    remap_weight_decay_exclusions,
    same_inner_optimizers,
    slots,
    timeless_state,
    trainable_of,
    unbuild,
)
from reducible_train._keras.outputs import carries_kernel, output_layers
from reducible_train._keras.symbolic import dtype_of, untouched_process, without_values
from reducible_train._keras.tracking import (
    drop_attribute,
    held_variables,
    order_variables,
    own_variables,
    replace_variables,
    set_unlocked,
    snapshot,
    variable_scope,
)
from reducible_train._keras.values import constant, host_float, host_value, itemsize, size
from reducible_train._keras.weights import (
    StoredVariables,
    note_place,
    snake_case,
    stored_variables,
    walk_state,
)

__all__ = [
    "Call",
    "StoredVariables",
    "all_optimizers",
    "assigned_in_calls",
    "automatic_stem",
    "become",
    "before_step",
    "begin_at",
    "build_scope",
    "built_optimizer",
    "carries_kernel",
    "children",
    "companions",
    "compares_with_targets",
    "compiled",
    "compiled_optimizer",
    "constant",
    "copy_state",
    "drop_attribute",
    "dtype_of",
    "end_warm_up",
    "fixed_batch",
    "fresh_input_layers",
    "has_weights",
    "held_variables",
    "host_float",
    "host_value",
    "inner_optimizers",
    "is_distributed",
    "is_graph_model",
    "itemsize",
    "known_inputs",
    "knows_variables",
    "logged_metrics",
    "loss_gradients",
    "note_place",
    "order_variables",
    "output_gradients",
    "output_layers",
    "own_variables",
    "part_in_training",
    "reclass",
    "release",
    "remap_weight_decay_exclusions",
    "renew_functions",
    "replace_variables",
    "rerun_graph",
    "runs_its_graph",
    "same_inner_optimizers",
    "sample_batches",
    "saves_its_layers",
    "seen_as",
    "seen_as_built",
    "set_unlocked",
    "settle",
    "size",
    "slots",
    "snake_case",
    "snapshot",
    "stored_variables",
    "strategy_scope",
    "tapped",
    "timeless_state",
    "trace_calls",
    "trainable_of",
    "unbuild",
    "unbuilt_parts",
    "unpickler",
    "untouched_process",
    "variable_scope",
    "walk",
    "walk_state",
    "warm_up_learning_rate",
    "without_values",
]
