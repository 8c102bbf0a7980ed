"""Every private name that the package relies on: where it is, what it is, and what for.

Names of Keras and of TensorFlow that are not documented may move with any version. They are used in
this package alone, those of keras-tuner in `tuner`, and each stands in this table or, for the slots
of optimizers, in `slots`; `tests/_keras/test_keras_door.py` reads the source for names that do not,
and looks every one of them up in what is installed. `make bounds` does so with the lowest and the
newest that `pyproject.toml` allows, so one row holds for all versions between.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrivateName:
    """A name that nobody has promised to keep.

    Args:
        where: What has it: a class or a module, or `keras.Model.fit` for a local variable of it.
        name: The name.
        form: What is relied on: the names of types, one of which a value is of (`"list | dict"`);
            or how a function is called (`"(inputs, call_fn=)"`). `"prefix"` and `"variable"` are
            said of what begins with the name, and of local variables.
        why: What for.
        rooms: Other rooms that have to name it.
    """

    where: str
    name: str
    form: str
    why: str
    rooms: tuple[str, ...] = ()


_LAYER = "keras.Layer"
_MODEL = "keras.Model"
_TRACKER = "keras.src.utils.tracking.Tracker"
_OPTIMIZER = "keras.optimizers.Optimizer"
_MULTI = "keras.optimizers.MultiOptimizer"
_DECAY = "keras.optimizers.AdamW"
_VARIABLE = "keras.Variable"
_FUNCTIONAL = "keras.src.models.functional.Functional"
_ITERATOR = "keras.src.backend.tensorflow.trainer.TFEpochIterator"
_TF_LAYER = "keras.src.backend.tensorflow.layer.TFLayer"
_TF_MODEL = "keras.src.backend.tensorflow.trainer.TensorFlowTrainer"
_TORCH = "keras.src.backend.torch.layer.TorchLayer"
_JAX = "keras.src.backend.jax.trainer.JAXTrainer"
_COMPILED = "keras.src.trainers.compile_utils.CompileMetrics"
_COMPILED_LOSS = "keras.src.trainers.compile_utils.CompileLoss"
_STORE = "keras.src.saving.saving_lib.H5IOStore"
_TRACED = "tensorflow.python.eager.polymorphic_function.polymorphic_function.Function"
_GRAPH = "tensorflow.python.eager.polymorphic_function.concrete_function.ConcreteFunction"
_ORACLE = "keras_tuner.Oracle"
_GRID = "keras_tuner.oracles.GridSearchOracle"

# What an object has.
ATTRIBUTES = (
    PrivateName(_GRID, "_compare", "(one, other)", "which trial of a grid is first", ("tuner",)),
    PrivateName(_ORACLE, "_project_dir", "str", "the folder of a search", ("tuner",)),
    PrivateName(_ORACLE, "_record_values", "(trial)", "know what was tried", ("tuner",)),
    PrivateName(_LAYER, "_build_shapes_dict", "dict", "shapes that a layer was built with"),
    PrivateName(_LAYER, "_check_quantize_args", "(mode, dtype)", "quantize a layer of a new class"),
    PrivateName(
        _TF_LAYER, "_delete_tracking", "(name)", "TensorFlow lets go of a variable that left"
    ),
    PrivateName(_LAYER, "_flatten_layers", "()", "a model and all layers below, in Keras's order"),
    PrivateName(
        _LAYER, "_get_own_losses", "()", "a penalty on the product of two factors", ("layers",)
    ),
    PrivateName(_LAYER, "_inbound_nodes", "list", "the calls of a layer that are in graphs"),
    PrivateName(_LAYER, "_layers", "list", "sublayers, those beside a graph among them"),
    PrivateName(_LAYER, "_lock_state", "()", "end the build of a layer of a new class"),
    PrivateName(_LAYER, "_loss_ids", "set", "put back after a call that nobody shall notice"),
    PrivateName(_LAYER, "_losses", "list", "put back after a call that nobody shall notice"),
    PrivateName(_LAYER, "_metrics", "list", "metrics of its own, put back after a call"),
    PrivateName(_LAYER, "_non_trainable_variables", "list", "a store, replaced when one leaves"),
    PrivateName(_LAYER, "_outbound_nodes", "list", "what takes the outputs of a layer in graphs"),
    PrivateName(_LAYER, "_open_name_scope", "()", "build a layer of a new class in its scope"),
    PrivateName(_LAYER, "_path", "str", "the scope a layer was built in, so that paths stay"),
    PrivateName(_LAYER, "_post_build", "()", "end the build of a layer of a new class"),
    PrivateName(_LAYER, "_seed_generators", "list", "seeds, put back after a call"),
    PrivateName(_TF_LAYER, "_self_", "prefix", "TensorFlow's bookkeeping, changed in place"),
    PrivateName(_TF_LAYER, "_self_setattr_tracking", "bool", "off while a store is replaced"),
    PrivateName(_LAYER, "_trainable", "bool", "the flag of the layer alone, without sublayers"),
    PrivateName(_LAYER, "_trainable_variables", "list", "a store, replaced when one leaves"),
    PrivateName(_LAYER, "_tracker", "Tracker", "which variables a layer tracks, in which store"),
    PrivateName(_TRACKER, "config", "dict", "store -> its test and its list, which is replaced"),
    PrivateName(_TRACKER, "lock", "()", "a built layer takes no new variables"),
    PrivateName(_TRACKER, "locked", "bool", "a built layer takes no new variables"),
    PrivateName(_TRACKER, "stored_ids", "dict", "store -> ids of what is in it"),
    PrivateName(_TRACKER, "unlock", "()", "a built layer takes new variables"),
    PrivateName("keras.layers.Dense", "_kernel", "Variable", "the kernel of a layer", ("layers",)),
    PrivateName(
        "keras.layers.Embedding", "_embeddings", "Variable", "the kernel of a layer", ("layers",)
    ),
    PrivateName(
        "keras.layers.RNN", "inner_loop", "(x, state, mask, training=)", "follow its steps"
    ),
    PrivateName("keras.layers.LSTM", "use_cudnn", "bool | str", "follow its steps"),
    PrivateName(
        "torch.nn.Module", "_modules", "dict", "where torch keeps attributes that are layers"
    ),
    PrivateName(
        "torch.Tensor", "_backward_hooks", "dict | NoneType", "hooks that a cut would lose"
    ),
    PrivateName(
        "torch.Tensor",
        "_post_accumulate_grad_hooks",
        "dict | NoneType",
        "hooks that a cut would lose",
    ),
    PrivateName("torch.optim.LBFGS", "_numel_cache", "NoneType | int", "count its numbers anew"),
    PrivateName(_TORCH, "_post_track_variable", "source", "torch's parameters, one more"),
    PrivateName(_TORCH, "_torch_params", "source", "torch's parameters, made when it was built"),
    PrivateName(_TORCH, "_track_variables", "source", "torch's parameters, made anew"),
    PrivateName(_MODEL, "_compile_config", "SerializableDict", "functions it is compiled with"),
    PrivateName(_MODEL, "_compile_loss", "CompileLoss", "whether losses compare with targets"),
    PrivateName(_MODEL, "_compile_metrics", "CompileMetrics", "the metrics that will be logged"),
    PrivateName(
        _MODEL, "_compute_loss", "(x, y, y_pred, sample_weight, training=)", "the loss of a batch"
    ),
    PrivateName(_MODEL, "_compiled_trainable_state", "dict", "what was frozen at `compile`"),
    PrivateName(_TF_MODEL, "_distribute_strategy", "StrategyBase | NoneType", "TensorFlow's scope"),
    PrivateName(_MODEL, "_initial_epoch", "int | NoneType", "begin a fit where another ended"),
    PrivateName(_MODEL, "_loss_tracker", "Mean", "the loss of samples, as `evaluate` tells it"),
    PrivateName(_MODEL, "_unpickle_model", "(file)", "unpickle a model of a class made meanwhile"),
    PrivateName(_MODEL, "make_test_function", "(force=)", "notice that a fit was broken off"),
    PrivateName(_MODEL, "make_train_function", "(force=)", "a train function in mid-fit"),
    PrivateName(_MODEL, "train_function", "function", "thrown away when variables are dead"),
    PrivateName(
        "keras.losses.SparseCategoricalCrossentropy",
        "_fn_kwargs",
        "dict",
        "the axis of its classes",
    ),
    PrivateName("keras.Sequential", "_functional", "Functional", "bookkeeping: the graph it hides"),
    PrivateName(_FUNCTIONAL, "_inputs_struct", "KerasTensor | list | dict", "inputs, as nested"),
    PrivateName(_FUNCTIONAL, "_run_through_graph", "(inputs, call_fn=)", "copy a graph"),
    PrivateName(_JAX, "_jax_state", "source", "what a step that fails is to leave"),
    PrivateName(_JAX, "_jax_state_synced", "source", "variables are up to date after a cut"),
    PrivateName(_JAX, "jax_state_sync", "source", "bring variables up to date"),
    PrivateName("keras.Model.fit", "epoch_iterator", "variable", "know the data of the fit"),
    PrivateName("keras.Model.fit", "validation_data", "variable", "know the data of the fit"),
    PrivateName("tensorflow.data.Dataset", "_inputs", "()", "whether a data set shuffles"),
    PrivateName(_ITERATOR, "_distributed_dataset", "DatasetV2", "shapes of the data of the fit"),
    PrivateName(_ITERATOR, "data_adapter", "DataAdapter", "whether it knows its length"),
    PrivateName(_ITERATOR, "_get_iterator", "()", "see batches before they are trained on"),
    PrivateName(_ITERATOR, "steps_per_execution", "int", "which batches are of one step"),
    PrivateName("keras.KerasTensor", "_keras_history", "KerasHistory", "what made a tensor"),
    PrivateName("keras.src.ops.node.Node", "arguments", "SymbolicArguments", "variables in it"),
    PrivateName("keras.src.ops.node.Node", "input_tensors", "list", "follow a graph back"),
    PrivateName(_OPTIMIZER, "_get_current_learning_rate", "()", "scale whatever gives the rate"),
    PrivateName(_OPTIMIZER, "_iterations", "Variable", "the steps it has done itself"),
    PrivateName(_OPTIMIZER, "_learning_rate", "Variable", "no state of a variable's"),
    PrivateName(_OPTIMIZER, "_tracker", "Tracker", "which variables an optimizer tracks"),
    PrivateName(_OPTIMIZER, "_trainable_variables", "list", "what an optimizer was built on"),
    PrivateName(_OPTIMIZER, "_trainable_variables_indices", "dict", "emptied, to build it again"),
    PrivateName(_OPTIMIZER, "_use_weight_decay", "(variable)", "exclusions from weight decay"),
    PrivateName(_OPTIMIZER, "_var_key", "(variable)", "what an optimizer knows a variable by"),
    PrivateName(_OPTIMIZER, "_variables", "list", "emptied, to build it again"),
    PrivateName(_DECAY, "_exclude_from_weight_decay", "set", "inherited by variables that follow"),
    PrivateName(_DECAY, "_exclude_from_weight_decay_cache", "dict", "asked before the names are"),
    PrivateName(_DECAY, "_exclude_from_weight_decay_pattern", "Pattern", "exclusions by name"),
    PrivateName(_MULTI, "_inner_optimizers", "list", "the optimizers that it drives"),
    PrivateName(_MULTI, "_optimizer_map", "OptimizerMap | function", "its choice for a variable"),
    PrivateName(_MULTI, "_var_to_optimizer_idx", "dict", "its choice for a variable, once built"),
    PrivateName(
        "keras.optimizers.LossScaleOptimizer", "inner_optimizer", "Optimizer", "the one it drives"
    ),
    PrivateName("keras.optimizers.OptimizerMap", "_optimizer_map", "dict", "path -> optimizer"),
    PrivateName(_VARIABLE, "_deferred_initialize", "()", "give a variable that waits its memory"),
    PrivateName(_VARIABLE, "_initialize_with_initializer", "(initializer)", "let it wait"),
    PrivateName(_VARIABLE, "_initializer", "NoneType | Initializer", "let a variable wait"),
    PrivateName(_VARIABLE, "_trainable", "bool", "the flag, set with no question of the backend"),
    PrivateName(_VARIABLE, "_value", "object", "the backend's own, also while it waits"),
    PrivateName("keras.metrics.Metric", "_direction", "str", "whether more is better"),
    PrivateName(_COMPILED_LOSS, "_user_loss", "object", "names of losses before a step"),
    PrivateName(_COMPILED, "_flat_metrics", "list", "their names"),
    PrivateName(_COMPILED, "_flat_weighted_metrics", "list", "their names"),
    PrivateName(_COMPILED, "_user_metrics", "list", "their names before a step"),
    PrivateName(_COMPILED, "_user_weighted_metrics", "list", "their names before a step"),
    PrivateName(
        "keras.callbacks.SwapEMAWeights", "_ema_weights_in_model", "bool", "undo a cut in between"
    ),
    PrivateName(_STORE, "_h5_entry_group", "object", "note the place of a layer in a list"),
    PrivateName(_STORE, "_h5_entry_path", "str", "note the place of a layer in a list"),
    PrivateName(_STORE, "h5_file", "object", "read a weights file of Keras's"),
    PrivateName(_TRACED, "_created_variables", "object", "have a function forget its graphs"),
    PrivateName(_TRACED, "_function_cache", "FunctionCache", "the graphs of a function"),
    PrivateName(_TRACED, "_lock", "RLock", "nobody traces in the meantime"),
    PrivateName(
        _TRACED, "_no_variable_creation_config", "object", "have a function forget its graphs"
    ),
    PrivateName(
        _TRACED, "_variable_creation_config", "object", "have a function forget its graphs"
    ),
    PrivateName(
        _GRAPH,
        "_call_impl",
        "(args, kwargs)",
        "a graph of dead variables says so when it is called",
    ),
    PrivateName(
        "tensorflow.python.framework.registry.Registry", "_registry", "dict", "forget dead graphs"
    ),
    PrivateName(
        "tensorflow.distribute.StrategyExtended", "_in_multi_worker_mode", "()", "count the workers"
    ),
)

# What a module has, or a class that has no public name.
_TF = "tensorflow.python"
MODULES = (
    PrivateName("keras", "src", "module", "whether a class or a function is Keras's own"),
    PrivateName("keras.src.applications.convnext", "LayerScale", "type", "files name it"),
    PrivateName("keras.src.applications.convnext", "StochasticDepth", "type", "files name it"),
    PrivateName(
        "keras.src.applications.inception_resnet_v2", "CustomScaleLayer", "type", "files name it"
    ),
    PrivateName(
        "keras.src.layers.preprocessing.feature_space", "TFDConcat", "type", "files name it"
    ),
    PrivateName(
        "keras.src.layers.preprocessing.feature_space", "TFDIdentity", "type", "files name it"
    ),
    PrivateName("keras.src.models.functional", "Functional", "type", "files name it"),
    PrivateName("keras.src.api_export", "get_symbol_from_name", "(name)", "what a file names"),
    PrivateName("keras.src.backend", "compute_output_spec", "(call, inputs)", "trace calls"),
    PrivateName("keras.src.backend", "name_scope", "(name, caller=)", "paths of variables stay"),
    PrivateName(
        "keras.src.backend.common.global_state",
        "get_global_attribute",
        "(name)",
        "seed, counts, scopes",
    ),
    PrivateName(
        "keras.src.backend.common.global_state",
        "set_global_attribute",
        "(name, value)",
        "counts, scopes",
    ),
    PrivateName(
        "keras.src.backend.common.masking", "get_keras_mask", "(x)", "the mask that a tensor has"
    ),
    PrivateName(
        "keras.src.backend.common.masking", "set_keras_mask", "(x, mask)", "a tensor gets a mask"
    ),
    PrivateName(
        "keras.src.backend.common.stateless_scope", "in_stateless_scope", "()", "only noted there"
    ),
    PrivateName(
        "keras.src.callbacks.monitor_callback", "MonitorCallback", "type", "which compare epochs"
    ),
    PrivateName(
        "keras.src.models.functional", "functional_like_constructor", "(kind)", "what is saved"
    ),
    PrivateName(_FUNCTIONAL, "call", "(model, inputs)", "whether a model is its graph"),
    PrivateName(_FUNCTIONAL, "get_config", "(model)", "whether a file holds its layers"),
    *(
        PrivateName("keras.src.ops", module, "module", "the operations that a file may name")
        for module in ("core", "einops", "image", "linalg", "math", "nn", "numpy")
    ),
    PrivateName(
        "keras.src.quantizers.quantization_config",
        "validate_and_resolve_config",
        "(mode, config)",
        "quantize a layer of a new class",
    ),
    PrivateName("keras.src.random.seed_generator", "GLOBAL_SEED_GENERATOR", "str", "its seed"),
    PrivateName("keras.src.random.seed_generator", "global_seed_generator", "()", "its seed"),
    PrivateName("keras.src.saving.keras_saveable", "KerasSaveable", "type", "what has variables"),
    PrivateName("keras.src.saving.saving_lib", "H5IOStore", "type", "read weights files"),
    PrivateName("keras.src.saving.saving_lib", "ShardedH5IOStore", "type", "read weights files"),
    PrivateName("keras.src.saving.saving_lib", "_get_unique_name", "(name, used)", "its paths"),
    PrivateName("keras.src.saving.saving_lib", "_walk_saveable", "(layer)", "its order"),
    PrivateName(
        "keras.src.saving.saving_lib", "safe_get_h5_dataset", "(group, key)", "no outside files"
    ),
    PrivateName(
        "keras.src.trainers.data_adapters.data_adapter_utils",
        "class_weight_to_sample_weights",
        "(labels, class_weight)",
        "the loss that is trained, on samples of a fit",
    ),
    PrivateName("keras.src.utils.naming", "get_object_name", "(thing)", "names of metrics"),
    PrivateName("keras.src.utils.naming", "to_snake_case", "(name)", "automatic names"),
    PrivateName("keras.src.utils.tracking", "DotNotTrackScope", "type", "set a store as it is"),
    PrivateName("keras.src.utils.tracking", "Tracker", "type", "holds variables for its layer"),
    PrivateName(
        f"{_TF}.eager.polymorphic_function.concrete_function", "ConcreteFunction", "type", "find it"
    ),
    PrivateName(
        f"{_TF}.eager.polymorphic_function.polymorphic_function", "Function", "type", "find it"
    ),
    PrivateName(f"{_TF}.framework.ops", "gradient_registry", "Registry", "forget dead graphs"),
)
