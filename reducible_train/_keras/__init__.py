"""The one door to Keras's private attributes: a function for each need.

Everything here reaches behind Keras's public interface because the public way
does not do what surgery on a live model needs; each function says why. When
Keras moves, only this package and its test have to follow: `private_names` is the list
of what may move, `slots` that of the slots of optimizers.
"""

from reducible_train._keras.answers import Output, answers, can_be_judged
from reducible_train._keras.calls import (
    Call,
    assigned_in_calls,
    fixed_batch,
    in_order,
    input_names,
    inputs_of_shapes,
    known_inputs,
    numbers_of_sample,
    one_sample,
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
    Ahead,
    Observation,
    batches_ahead,
    before_step,
    layer_calls,
    loss_gradients,
    output_gradients,
    outputs_without_loss,
)
from reducible_train._keras.fit_samples import some_of_fit
from reducible_train._keras.fits import (
    Loop,
    MonitorCallback,
    arrays_of_fit,
    begin_at,
    data_of_fit,
    has_validation,
    loop_of,
    other_callbacks,
    set_swapped_averages,
    swapped_averages,
    training_arrays,
    validation_samples,
)
from reducible_train._keras.functions import (
    compares_with_targets,
    compiled_optimizer,
    has_call,
    has_own_loss,
    has_own_step,
    is_distributed,
    rebuild_functions,
    strategy_scope,
    sync_state,
    trained_model,
)
from reducible_train._keras.gradients import DIFFERENTIABLE
from reducible_train._keras.holders import find_holders
from reducible_train._keras.keeping import as_it_was
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
from reducible_train._keras.layouts import factor_layouts, laid_out, undistributed
from reducible_train._keras.learning_rate import end_warm_up, warm_up_learning_rate
from reducible_train._keras.masks import attach_mask
from reducible_train._keras.memory import release
from reducible_train._keras.metrics import answers_once, logged_metrics, metrics_begun
from reducible_train._keras.normalization import GraphsOf
from reducible_train._keras.optimizers import (
    all_optimizers,
    build_scope,
    built_optimizer,
    inherit_settings,
    inner_optimizers,
    knows_variables,
    same_inner_optimizers,
    timeless_state,
    trainable_of,
    unbuild,
    unbuild_all,
)
from reducible_train._keras.outputs import Outputs, carries_kernel, output_layers
from reducible_train._keras.processes import (
    Broadcast,
    broadcaster,
    is_shared_by_processes,
    is_split_among_processes,
    workers,
)
from reducible_train._keras.registry import is_of_keras, is_unnamed_class, only_registered
from reducible_train._keras.slots import Meaning, align_derived, meaning_of, slots
from reducible_train._keras.states import global_seed, passing_state
from reducible_train._keras.torch_optimizers import move_parameters
from reducible_train._keras.traceless import dtype_of, plainly_named, untouched_process
from reducible_train._keras.traces import trace_anew
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
from reducible_train._keras.trainability import held_optimizers
from reducible_train._keras.values import (
    constant,
    host_float,
    host_value,
    itemsize,
    not_finite,
    size,
    values_kept,
)
from reducible_train._keras.waiting import allocate, bounded_variables, waiting_bytes
from reducible_train._keras.weights import (
    StoredVariables,
    note_place,
    read_variables,
    snake_case,
    stored_variables,
    walk_state,
)

__all__ = [
    "DIFFERENTIABLE",
    "Ahead",
    "Broadcast",
    "Call",
    "GraphsOf",
    "Loop",
    "Meaning",
    "MonitorCallback",
    "Observation",
    "Output",
    "Outputs",
    "StoredVariables",
    "align_derived",
    "all_optimizers",
    "allocate",
    "answers",
    "answers_once",
    "arrays_of_fit",
    "as_it_was",
    "assigned_in_calls",
    "attach_mask",
    "automatic_stem",
    "batches_ahead",
    "become",
    "before_step",
    "begin_at",
    "bounded_variables",
    "broadcaster",
    "build_scope",
    "built_optimizer",
    "can_be_judged",
    "carries_kernel",
    "children",
    "compares_with_targets",
    "compiled",
    "compiled_optimizer",
    "constant",
    "copy_state",
    "data_of_fit",
    "drop_attribute",
    "dtype_of",
    "end_warm_up",
    "factor_layouts",
    "find_holders",
    "fixed_batch",
    "fresh_input_layers",
    "global_seed",
    "has_call",
    "has_own_loss",
    "has_own_step",
    "has_validation",
    "has_weights",
    "held_optimizers",
    "held_variables",
    "host_float",
    "host_value",
    "in_order",
    "inherit_settings",
    "inner_optimizers",
    "input_names",
    "inputs_of_shapes",
    "is_distributed",
    "is_graph_model",
    "is_of_keras",
    "is_shared_by_processes",
    "is_split_among_processes",
    "is_unnamed_class",
    "itemsize",
    "known_inputs",
    "knows_variables",
    "laid_out",
    "layer_calls",
    "logged_metrics",
    "loop_of",
    "loss_gradients",
    "meaning_of",
    "metrics_begun",
    "move_parameters",
    "not_finite",
    "note_place",
    "numbers_of_sample",
    "one_sample",
    "only_registered",
    "order_variables",
    "other_callbacks",
    "output_gradients",
    "output_layers",
    "outputs_without_loss",
    "own_variables",
    "passing_state",
    "plainly_named",
    "read_variables",
    "rebuild_functions",
    "reclass",
    "release",
    "replace_variables",
    "rerun_graph",
    "runs_its_graph",
    "same_inner_optimizers",
    "saves_its_layers",
    "seen_as",
    "seen_as_built",
    "set_swapped_averages",
    "set_unlocked",
    "size",
    "slots",
    "snake_case",
    "snapshot",
    "some_of_fit",
    "stored_variables",
    "strategy_scope",
    "swapped_averages",
    "sync_state",
    "timeless_state",
    "trace_anew",
    "trace_calls",
    "trainable_of",
    "trained_model",
    "training_arrays",
    "unbuild",
    "unbuild_all",
    "unbuilt_parts",
    "undistributed",
    "unpickler",
    "untouched_process",
    "validation_samples",
    "values_kept",
    "variable_scope",
    "waiting_bytes",
    "walk",
    "walk_state",
    "warm_up_learning_rate",
    "workers",
]
