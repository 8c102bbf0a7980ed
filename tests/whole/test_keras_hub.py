"""Models of keras-hub, in the smallest form: cut, generating, in files.

Budgets are met, each kernel that stays dense has its reason, `generate` after a cut is what a
function made anew gives, and files bring back what was saved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest

from reducible_train import (
    LayerRule,
    PiecewiseConstant,
    RankError,
    RankScheduler,
    factorize,
    load_model,
    load_weights_into,
    merge,
    save_model,
)

hub = pytest.importorskip("keras_hub", reason="keras-hub has no wheels for this machine")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),  # T5's own
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),  # keras-hub's `fit`
]

WORDS, LENGTH = 40, 6
TEXT = {"vocabulary_size": WORDS, "num_layers": 1, "hidden_dim": 16, "intermediate_dim": 32}
HEADS = {"num_heads": 2, "max_sequence_length": 8}
GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
LOGITS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PROMPT = {
    "token_ids": np.array([[5, 6, 7, 0, 0, 0]]),
    "padding_mask": np.array([[1, 1, 1, 0, 0, 0]]),
}


@dataclass(frozen=True)
class Case:
    """One family of models.

    Args:
        make: Makes a model of random weights.
        inputs: Makes four samples.
        outputs: How the paths of the kernels that stay dense as output layers end.
        budget: A fraction that it can be brought to.
    """

    make: Callable[[], Any]
    inputs: Callable[[], Any]
    outputs: tuple[str, ...]
    budget: float = 0.7


def task(kind: str, name: str, *extra: Any, **arguments: Any) -> Callable[[], Any]:
    """What makes a model for a task, compiled."""

    def make() -> Any:
        backbone = getattr(hub.models, f"{name}Backbone")(**arguments)
        model = getattr(hub.models, f"{name}{kind}")(backbone, *extra, preprocessor=None)
        model.compile("adam", LOGITS, **{"sampler": "greedy"} if kind == "CausalLM" else {})
        return model

    return make


def tokens(*prefixes: str, segments: bool = False) -> Callable[[], dict[str, np.ndarray]]:
    """What makes token ids and masks, for each part of a model that takes some."""

    def make() -> dict[str, np.ndarray]:
        shape = (4, LENGTH)
        found = {}
        for prefix in prefixes or ("",):
            ids = np.random.default_rng(0).integers(1, WORDS, shape)
            found |= {f"{prefix}token_ids": ids, f"{prefix}padding_mask": np.ones(shape, "int32")}
        return found | ({"segment_ids": np.zeros(shape, "int32")} if segments else {})

    return make


def images(size: int) -> Callable[[], np.ndarray]:
    return lambda: np.random.default_rng(0).normal(size=(4, size, size, 3)).astype("float32")


def sounds() -> dict[str, np.ndarray]:
    features = np.random.default_rng(0).normal(size=(4, 16, 8)).astype("float32")
    return {"encoder_features": features, **tokens("decoder_")()}


GPT2 = task("CausalLM", "GPT2", **TEXT, **HEADS)
GEMMA = task("CausalLM", "Gemma", **TEXT, num_query_heads=4, num_key_value_heads=1, head_dim=4)
CASES = {
    "BERT": Case(
        task("TextClassifier", "Bert", 3, **TEXT, **HEADS),
        tokens(segments=True),
        ("logits/kernel",),
    ),
    "GPT2": Case(GPT2, tokens(), ("token_embedding/embeddings",)),
    "Llama": Case(
        task("CausalLM", "Llama", **TEXT, **GROUPED),
        tokens(),
        ("token_embedding/reverse_embeddings",),
    ),
    "T5": Case(
        lambda: hub.models.T5Backbone(**TEXT, num_heads=2),
        tokens("encoder_", "decoder_"),
        ("encoder_layer_0/output_projector/kernel", "decoder_layer_0/output_projector/kernel"),
    ),
    "Whisper": Case(
        lambda: hub.models.WhisperBackbone(
            **TEXT,
            num_heads=2,
            num_mels=8,
            max_encoder_sequence_length=16,
            max_decoder_sequence_length=LENGTH,
        ),
        sounds,
        (
            "encoder_layer_0/feedforward_output_dense/kernel",
            "decoder_layer_0/feedforward_output_dense/kernel",
        ),
    ),
    "ViT": Case(
        task(
            "ImageClassifier",
            "ViT",
            3,
            image_shape=(8, 8, 3),
            patch_size=4,
            num_layers=1,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
        ),
        images(8),
        ("predictions/kernel",),
    ),
    "ResNet": Case(
        task(
            "ImageClassifier",
            "ResNet",
            3,
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64],
            stackwise_num_blocks=[1],
            stackwise_num_strides=[1],
            block_type="basic_block",
            image_shape=(8, 8, 3),
        ),
        images(8),
        ("predictions/kernel",),
    ),
}

QUICKLY_MADE = {"BERT", "GPT2", "ViT", "ResNet"}  # of the same layers as the others
SLOWLY_CUT = {"T5", "GPT2"}  # of layers that Whisper and Llama have, too


def outputs_of(model: Any, x: Any) -> np.ndarray:
    found = keras.tree.flatten(model(x, training=False))
    return np.concatenate([keras.ops.convert_to_numpy(each).ravel() for each in found])


def generated(model: Any) -> list[int]:
    return np.asarray(model.generate(PROMPT, stop_token_ids=None)["token_ids"])[0].tolist()


def check_generation(model: Any) -> None:
    """Generation goes on as if its function had been made anew."""
    found = generated(model)
    model.generate_function = None
    assert found == generated(model)


def loaded(path: Any, loads_with: str) -> Any:
    """What `load_model` gives by the call that was told, its classes those of keras-hub."""
    names = re.findall(r"'keras_hub>(\w+)'", loads_with)
    return load_model(path, {f"keras_hub>{name}": getattr(hub.models, name) for name in names})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOWLY_CUT)) for name in CASES],
)
def test_a_model_of_keras_hub_is_cut_and_comes_back(name, tmp_path):
    case = CASES[name]
    model, x, path = case.make(), case.inputs(), tmp_path / "model.reducible"
    if hasattr(model, "generate"):
        generated(model)
    report = factorize(model, budget=case.budget, calibration=x)

    assert report.size_fraction <= case.budget
    assert report.parameters == model.count_params()
    assert report.flops_fraction < 1
    dense = [kernel for kernel in report.kernels if kernel.rank is None]
    assert all(kernel.reason or kernel.remark for kernel in dense)
    outputs = [k.path for k in dense if k.reason and k.reason.startswith("output layer")]
    assert len(outputs) == len(case.outputs)
    assert all(
        path.endswith(end) for path, end in zip(sorted(outputs), sorted(case.outputs), strict=True)
    )

    wanted = outputs_of(model, x)
    saved = save_model(model, path, report)
    np.testing.assert_array_equal(outputs_of(loaded(path, saved.loads_with), x), wanted)
    if name in QUICKLY_MADE:
        filled = load_weights_into(case.make(), path)
        np.testing.assert_array_equal(outputs_of(filled, x), wanted)
    if hasattr(model, "generate"):
        check_generation(model)
    merge(model)
    np.testing.assert_allclose(outputs_of(model, x), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES.keys() - QUICKLY_MADE))
def test_weights_come_into_a_model_that_takes_long_to_make(name, tmp_path):
    case, path = CASES[name], tmp_path / "model.reducible"
    model, filled, x = case.make(), case.make(), case.inputs()
    save_model(model, path, factorize(model, budget=case.budget, calibration=x))
    load_weights_into(filled, path)
    np.testing.assert_array_equal(outputs_of(filled, x), outputs_of(model, x))


TIED = LayerRule("*/token_embedding", keep_dense=False)


def test_generation_follows_the_cuts_of_a_fit():
    model, x = GPT2(), tokens()()
    traced_before = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, _: generated(model) if epoch == 0 else check_generation(model)
    )
    scheduler = RankScheduler(
        budget=PiecewiseConstant(values=(0.8, 0.6), start_epochs=(0, 1)),
        criterion="frobenius",  # by which the table is cut, too
        rules=[TIED],
    )
    model.fit(x, x["token_ids"], epochs=2, verbose=0, callbacks=[scheduler, traced_before])
    assert scheduler.report.size_fraction <= 0.6
    assert scheduler.shortfall is None
    assert "gpt2_backbone/token_embedding/embeddings" in scheduler.report.ranks


def test_a_tied_table_is_taken_in_by_a_rule():
    model = GEMMA()
    generated(model)
    report = factorize(model, budget=0.5, rules=[TIED])
    assert [path for path in report.ranks if "token_embedding" in path] == [
        "gemma_backbone/token_embedding/embeddings"
    ]
    check_generation(model)


EXPERTS = {"num_experts": 3, "top_k": 2}
MIXTURES = {
    "Mixtral": task("CausalLM", "Mixtral", **TEXT, **GROUPED, **EXPERTS),
    "QwenMoe": task(
        "CausalLM",
        "QwenMoe",
        **TEXT,
        **GROUPED,
        **EXPERTS,
        moe_intermediate_dim=12,
        shared_expert_intermediate_dim=24,
    ),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_stacks_of_experts_are_told_with_their_share(name):
    model = MIXTURES[name]()
    stacks = [v for v in model.weights if len(v.shape) == 3 and "expert" in v.name]
    share = sum(np.prod(v.shape) for v in stacks) / model.count_params()
    with pytest.raises(RankError, match=r"(?s)cannot be met.*no low-rank form hold"):
        factorize(model, budget=0.1)
    report = factorize(model, energy=0.5)
    (note,) = [each for each in report.notes if "no low-rank form" in each]
    assert f"hold {100 * share:.0f} % of the parameters" in note
    assert all(variable.name in note for variable in stacks)
    assert all(k.rank is None and k.reason for k in report.kernels if "expert_bank" in k.path)
