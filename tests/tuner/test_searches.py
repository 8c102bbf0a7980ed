"""Every tuner of keras-tuner finds models at their final ranks, from a start that stays."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.src.distribute.oracle_client import OracleClient
from searches import (
    FIT,
    SPACE,
    X,
    Y,
    answers,
    file_of,
    hypermodel,
    metrics_of,
    network,
    random_search,
    ranks,
    search,
    trials_of,
)

from reducible_train import SearchSpace, factorize, load_model, read_report, save_model
from reducible_train.errors import ArgumentError, OutputErrorWarning
from reducible_train.selection.costs.file import file_bytes_while_dense
from reducible_train.settings.objectives import QualityAtSize, SizeAtQuality
from reducible_train.tuner import RankHyperModel, Start, evaluate_settings, pareto
from reducible_train.tuner import hypermodel as hypermodel_module
from reducible_train.tuner.reference import dense_quality
from reducible_train.tuner.seconds import seconds_of_batch
from reducible_train.tuner.trained_on import training_of

L = keras.layers
TUNERS = {
    "random": lambda hyper, **kw: keras_tuner.RandomSearch(hyper, max_trials=2, **kw),
    "grid": lambda hyper, **kw: keras_tuner.GridSearch(hyper, max_trials=2, **kw),
    "bayes": lambda hyper, **kw: keras_tuner.BayesianOptimization(
        hyper, max_trials=3, num_initial_points=2, **kw
    ),
    "hyperband": lambda hyper, **kw: keras_tuner.Hyperband(hyper, max_epochs=3, factor=3, **kw),
}


@pytest.mark.parametrize("name", TUNERS)
def test_the_best_model_is_that_of_its_file_at_its_final_ranks(name, tmp_path, monkeypatch):
    start = network()
    before = [np.array(each) for each in start.get_weights()]
    space = SPACE if name != "grid" else SearchSpace(budget=(0.45, 0.6, 0.8), start=0.4)
    tuner = TUNERS[name](hypermodel(start, space), objective="val_loss", seed=1, directory=tmp_path)
    began = begins_of(monkeypatch)
    tuner.search(X, Y, **FIT)
    for trial in trials_of(tuner):
        found, kept = metrics_of(trial), file_of(tuner, trial)
        (model,) = [tuner.load_model(trial)]
        assert ranks(model) == ranks(kept) != {}
        assert np.array_equal(answers(model), answers(kept))
        assert found["params"] == model.count_params()
        assert found["params_fraction"] <= trial.hyperparameters.get("budget") + 1e-6
        held = model.evaluate(X[32:], Y[32:], verbose=0, return_dict=True)
        assert held["loss"] == pytest.approx(found["val_loss"], abs=1e-5)
    best = tuner.oracle.get_best_trials(1)[0]
    assert np.array_equal(answers(tuner.get_best_models(1)[0]), answers(file_of(tuner, best)))
    assert all(map(np.array_equal, before, start.get_weights()))
    assert ranks(start) == {}
    if name == "hyperband":
        _parents(tuner, began)


def begins_of(monkeypatch):
    """For each fit of a model: the epoch it begins at, and its ranks then."""
    found, fit = [], keras.Model.fit

    @functools.wraps(fit)
    def noted(self, *args, **kwargs):
        found.append((kwargs.get("initial_epoch", 0), ranks(self)))
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", noted)
    return found


def _parents(tuner, began):
    """Trials that go on begin with the ranks of their parent, and keep them."""
    on = [each for each in trials_of(tuner) if "tuner/trial_id" in each.hyperparameters.values]
    first = [found for epoch, found in began if epoch > 0]
    assert on
    assert len(on) == len(first)
    for trial, ranked in zip(on, first, strict=True):
        parent = tuner.oracle.trials[trial.hyperparameters.get("tuner/trial_id")]
        assert ranked == ranks(file_of(tuner, parent)) == ranks(file_of(tuner, trial)) != {}
        _reports(
            *(
                Path(tuner.get_trial_dir(each.trial_id)) / hypermodel_module.COMPACT
                for each in (parent, trial)
            )
        )
    assert all(found == {} for epoch, found in began if epoch == 0)


def _reports(before, after):
    """What was done in a trial is told by the file of the one that goes on from it, too."""
    told, follows = read_report(before), read_report(after)
    assert follows.cuts == told.cuts != ()
    for kernel, known in zip(follows.kernels, told.kernels, strict=True):
        assert (kernel.energy, kernel.output_error) == (known.energy, known.output_error)
    assert follows.answers.samples == told.answers.samples
    assert not follows.answers.metrics, "training went on, and nobody has measured"
    assert after.stat().st_size == pytest.approx(before.stat().st_size, rel=0.03)


# --- what a search begins from ---------------------------------------------------------


def keras_file(folder):
    network().save(folder / "start.keras")
    return folder / "start.keras"


def compact_file(folder):
    model = network()
    save_model(model, folder / "start.reducible")
    return folder / "start.reducible"


def test_it_begins_from_files_and_builders(tmp_path):
    built = []

    def build(hp):
        built.append(hp.Int("units", 16, 24))
        return network()

    from_keras = search(tmp_path / "k", hypermodel(keras_file(tmp_path)), trials=1)
    builder = search(tmp_path / "b", hypermodel(build), trials=1)
    for tuner in (from_keras, builder):
        (trial,) = trials_of(tuner)
        assert np.array_equal(answers(tuner.load_model(trial)), answers(file_of(tuner, trial)))
    assert "units" in trial.hyperparameters.values
    assert len(built) > 2


def test_hyperparameters_that_change_the_size_are_told(tmp_path):
    def build(hp):
        units = hp.Choice("units", [24, 32])
        model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(units, name="hidden"),
                                  keras.layers.Dense(4, "softmax", name="output")])  # fmt: skip
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    hyper = hypermodel(build, SearchSpace(budget=(0.45, 0.8)))
    hp = keras_tuner.HyperParameters()
    hp.Choice("units", [24, 32])
    hyper.build(hp)
    hp.values["units"] = 32
    with pytest.warns(UserWarning, match="of 412 and 548 parameters"):
        hyper.build(hp)


def test_a_function_that_fails_leaves_its_reason(tmp_path):
    def build(hp):
        if hp.values.get("budget", 0.8) == 0.6:
            raise RuntimeError("no such model")
        return network()

    hyper = hypermodel(build, SearchSpace(budget=(0.45, 0.6, 0.8)))
    with pytest.warns(UserWarning, match="No model was built for a trial: RuntimeError: no such"):
        tuner = search(
            tmp_path, hyper, trials=3, fit={"epochs": 1}, max_consecutive_failed_trials=9
        )
    (failed,) = trials_of(tuner, "FAILED")
    reason = Path(tuner.get_trial_dir(failed.trial_id), "failed.txt").read_text()
    assert reason == "RuntimeError: no such model"


FACTOR = 3.0


def relu(x):
    return FACTOR * x  # not Keras's


def scaled_by(factor):
    def scaled(y_true, y_pred):
        return factor * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)

    return scaled


@pytest.mark.parametrize(
    ("activation", "loss", "metrics"),
    [
        ("relu", lambda y, p: FACTOR * keras.ops.mean(keras.ops.abs(y - p), axis=-1), []),
        ("relu", "mse", [lambda y, p: FACTOR * keras.ops.mean(y - p, axis=-1)]),
        ("relu", scaled_by(1.0), [scaled_by(5.0), scaled_by(7.0)]),
        (lambda x: FACTOR * keras.ops.relu(x), "mse", []),
        (relu, "mse", []),
        ("relu", [scaled_by(2.0)], [keras.metrics.MeanMetricWrapper(scaled_by(3.0), name="w")]),
    ],
)
def test_a_copy_has_the_very_functions_of_its_model(activation, loss, metrics):
    layers = keras.layers
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8, activation=activation),
                              layers.Lambda(lambda x: FACTOR * x), layers.Dense(4)])  # fmt: skip
    model.compile("sgd", loss, metrics=metrics)
    target = X[:, :4]
    expected = model.evaluate(X, target, verbose=0, return_dict=True)
    copied = Start(model).new_model()
    assert copied.evaluate(X, target, verbose=0, return_dict=True) == pytest.approx(expected)
    assert model.layers[1].function.__name__ == "<lambda>"  # the user's, as it was


@pytest.mark.parametrize("scaled", [False, True])
def test_a_copy_is_told_what_its_model_was_about_weight_decay(scaled):
    model = network()
    first, last = model.layers[0], model.layers[-1]
    told = keras.optimizers.AdamW(weight_decay=0.5)
    told.exclude_from_weight_decay(var_list=[last.kernel], var_names=[f"{first.name}/"])
    model.compile(keras.optimizers.LossScaleOptimizer(told) if scaled else told, "mse")
    expected = [each is last.bias for each in model.weights]
    for _ in range(2):
        copied = Start(model).new_model()
        optimizer = getattr(copied.optimizer, "inner_optimizer", copied.optimizer)
        assert [optimizer._use_weight_decay(each) for each in copied.weights] == expected


def test_a_copy_has_a_schedule_of_ones_own_within_what_scales_the_loss():
    class Falling(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 / (1.0 + keras.ops.cast(step, "float32"))

        def get_config(self):
            return {}

    model = network()
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(Falling())), "mse")
    assert float(Start(model).new_model().optimizer.learning_rate) == 0.5


def test_a_compact_file_is_compiled_by_the_tuner(tmp_path):
    given = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy"}
    hyper = hypermodel(compact_file(tmp_path))
    tuner = search(tmp_path / "r", hyper, "val_loss", trials=1, **given)
    (trial,) = trials_of(tuner)
    assert ranks(file_of(tuner, trial))
    goal = SizeAtQuality("val_accuracy", max_drop=0.5)  # Keras knows that it should be large
    hyper = hypermodel(compact_file(tmp_path), objective=goal)
    more = {"trials": 1, "fit": {"epochs": 1}, "metrics": ["accuracy"]}
    tuner = search(tmp_path / "m", hyper, hyper.objective, **more, **given)
    assert "val_accuracy" in metrics_of(*trials_of(tuner))


def test_a_builder_must_build_and_a_start_must_be_one():
    model = network()
    with pytest.raises(ValueError, match="must build a new model at each call"):
        hypermodel(lambda: model)
    with pytest.raises(TypeError, match="must return a Keras model"):
        hypermodel(lambda: 3)
    with pytest.raises(TypeError, match="begins from a model"):
        hypermodel(3)
    with pytest.raises(OSError, match="not a file"):
        hypermodel("nowhere.keras")


class Odd(keras.Model):
    """A model that cannot be made from its configuration."""

    def __init__(self, width):
        super().__init__()
        self.hidden = keras.layers.Dense(width)

    def call(self, inputs):
        return self.hidden(inputs)


def test_a_model_that_cannot_be_copied_is_refused_with_the_way_out():
    model = Odd(16)
    model(X)
    with pytest.raises(ValueError, match="a function that builds the model"):
        hypermodel(model)


# --- reproducible, several executions, failures ----------------------------------------


def test_equal_seeds_give_equal_results_in_any_order(tmp_path):
    model = network()
    fit = {"batch_size": 8}  # in an order that is drawn
    runs = []
    for seed in (5, 6):  # whatever was drawn before
        keras.utils.set_random_seed(seed)
        runs.append(search(tmp_path / str(seed), hypermodel(model), fit=fit))
    told = [[metrics_of(each) for each in trials_of(tuner)] for tuner in runs]
    assert told[0] == told[1]
    settings = trials_of(runs[0])[1].hyperparameters.values
    again = random_search(tmp_path / "c", hypermodel(model))
    trial = again.oracle.create_trial("tuner0")
    trial.hyperparameters.values.update(settings)
    assert again.run_trial(trial, X, Y, **(FIT | fit))[0] == pytest.approx(told[0][1])


SEEN = []  # the answers after each epoch; keras-tuner copies callbacks for each execution


class Worse(keras.callbacks.Callback):
    """A metric that is the worse the later, from epoch to epoch and from fit to fit."""

    def on_epoch_end(self, epoch, logs=None):
        SEEN.append(answers(self.model))
        logs["score"] = 1.0 - len(SEEN) / 100


def test_the_best_epoch_is_one_at_the_final_ranks_of_whichever_execution(tmp_path):
    SEEN.clear()
    space = SearchSpace(budget=(0.45, 0.8), start=0.4, criterion="frobenius")  # at epoch 1 of 3
    fit = {"callbacks": [Worse()], "batch_size": 8}  # executions differ by the order of samples
    wanted = keras_tuner.Objective("score", "max")
    tuner = search(tmp_path, hypermodel(space=space), wanted, 1, fit, executions_per_trial=2)
    (trial,) = trials_of(tuner)
    for model in (tuner.load_model(trial), file_of(tuner, trial)):
        assert ranks(model)
        assert np.allclose(answers(model), SEEN[1], atol=1e-6)
    assert not np.allclose(SEEN[1], SEEN[2], atol=1e-6)
    assert trial.score == pytest.approx((0.98 + 0.95) / 2)


class Unsteady(keras.callbacks.Callback):
    """Small models are good enough in every third epoch."""

    def on_epoch_end(self, epoch, logs=None):
        small = self.model.count_params() < 400
        EPOCHS.append(small)
        logs["quality"] = (0.95 if sum(EPOCHS) % 3 == 0 else 0.85) if small else 0.92


EPOCHS = []


def test_a_limit_is_kept_by_executions_together(tmp_path, capsys):
    EPOCHS.clear()
    goal = SizeAtQuality("quality", limit=0.9, mode="max")
    space = SearchSpace(budget=(0.45, 0.8), criterion="frobenius")
    hyper = hypermodel(space=space, objective=goal)
    fit = {"callbacks": [Unsteady()], "epochs": 1}
    tuner = search(tmp_path, hyper, hyper.objective, 1, fit, executions_per_trial=3)
    (trial,) = trials_of(tuner)
    shown = metrics_of(trial)
    assert shown["quality"] == pytest.approx((0.85 + 0.85 + 0.95) / 3)  # one of three holds
    assert trial.score == pytest.approx(1 + 0.9 - shown["quality"])  # beyond all that hold
    capsys.readouterr()
    tuner.results_summary()
    assert "quality: 0.8833" in capsys.readouterr().out


def test_of_two_executions_the_better_one_is_kept(tmp_path):
    space = SearchSpace(budget=(0.45, 0.8))
    hyper = hypermodel(space=space, latency=True)
    fit = {"epochs": 1, "shuffle": True}
    tuner = search(tmp_path, hyper, "val_loss", 1, fit=fit, executions_per_trial=2)
    (trial,) = trials_of(tuner)
    model = tuner.load_model(trial)
    assert np.array_equal(answers(model), answers(file_of(tuner, trial)))
    assert len(trial.metrics.get_history("val_loss")) == 1  # their mean
    assert model.evaluate(X[32:], Y[32:], verbose=0)[0] <= trial.score + 1e-6
    assert 0 < metrics_of(trial)["latency"] < 10


@pytest.mark.filterwarnings("ignore:Trial .* failed:UserWarning")
@pytest.mark.filterwarnings("ignore:The smallest budgets of the search space")
def test_a_failed_trial_is_no_failed_search(tmp_path):
    space = SearchSpace(budget=(0.45, 0.5, 0.9), min_rank={"hidden": (1, 5)})
    tuner = search(tmp_path, hypermodel(space=space), trials=6, fit={"epochs": 1})
    failed, done = trials_of(tuner, "FAILED"), trials_of(tuner)
    assert failed
    assert done
    assert all("`budget` cannot be met" in each.message for each in failed)
    assert len(pareto(tuner).trials) == len(done)


@pytest.mark.filterwarnings("ignore:Trial .* failed:UserWarning")
@pytest.mark.filterwarnings("ignore:The training of model")
@pytest.mark.parametrize("wanted", ["params_fraction", "val_accuracy"])
def test_a_trial_whose_weights_are_lost_has_failed(wanted, tmp_path):
    space = SearchSpace(budget=0.6, start=0.0, ramp=0.0, learning_rate=(1e-3, 1e30, 1e31))
    goal = keras_tuner.Objective(wanted, "max" if wanted == "val_accuracy" else "min")
    tuner = search(tmp_path, hypermodel(space=space), goal, trials=3, fit={"epochs": 1})
    assert [each.hyperparameters.get("learning_rate") for each in trials_of(tuner)] == [1e-3]
    failed = trials_of(tuner, "FAILED")
    assert len(failed) == 2
    told = [Path(tuner.get_trial_dir(each.trial_id), "failed.txt").read_text() for each in failed]
    assert all("training diverged" in each and "NaN or infinite" in each for each in told)


# --- objectives, front, summary --------------------------------------------------------


def test_quality_at_size_and_the_front(tmp_path, capsys, monkeypatch):
    space = SearchSpace(budget=(0.45, 0.6, 0.8))
    goal = QualityAtSize("val_accuracy", limit=0.65)
    hyper = hypermodel(space=space, objective=goal)
    tuner = search(tmp_path, hyper, hyper.objective, trials=3, fit={"epochs": 1})
    best = metrics_of(tuner.oracle.get_best_trials(1)[0])
    assert best["params_fraction"] <= 0.65
    small = [each for each in map(metrics_of, trials_of(tuner)) if each["params_fraction"] <= 0.65]
    assert best["val_accuracy"] == max(each["val_accuracy"] for each in small)
    front = pareto(tuner)
    assert (front.quality, front.sign, len(front.trials)) == ("val_accuracy", 1, 3)
    assert front.costs == ("params_fraction", "flops_fraction", "file_bytes")
    assert all(each.file.is_file() for each in front.trials)
    assert front.plot().axes
    assert pareto(tuner, "val_loss", mode="min", costs=["params"]).sign == -1
    with pytest.raises(ValueError, match="must have reported 'f1'"):
        pareto(tuner, "f1")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8000")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-1")
    worker = copy.copy(tuner)
    worker.oracle = OracleClient(tuner.oracle)  # whose chief has left
    half = Path(tuner.project_dir) / "trial_99" / "trial.json"  # while its chief writes it
    half.parent.mkdir()
    half.write_text('{"trial_id": "99", ')
    assert str(pareto(worker)) == str(front)
    monkeypatch.undo()
    tuner.results_summary()
    assert "flops: " in capsys.readouterr().out


def hits(y_true, y_pred):
    """A metric of which nobody knows whether it should be large."""
    return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)


def test_a_front_goes_by_what_the_model_says_of_its_metrics(tmp_path):
    """keras-tuner knows metrics by Keras's own names, and takes all others for small ones."""
    x = keras.Input((12,))
    hidden = L.Dense(24, "relu", name="hidden")(x)
    ends = [L.Dense(4, "softmax", name=name)(hidden) for name in ("left", "right")]
    model = keras.Model(x, ends)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[["accuracy"], [hits]])
    goal = QualityAtSize("val_left_accuracy", limit=0.65)
    space, own = SearchSpace(budget=(0.6, 0.8)), {"hits": hits}
    hyper = hypermodel(model, space, objective=goal, custom_objects=own)
    tuner = random_search(tmp_path, hyper, hyper.objective, trials=1)
    tuner.search(X, (Y, Y), validation_data=(X, (Y, Y)), epochs=1, verbose=0)
    signs = {
        "val_left_accuracy": 1, "left_loss": -1, "val_loss": -1, "params": -1,
    }  # fmt: skip
    assert {name: pareto(tuner, name).sign for name in signs} == signs
    assert pareto(tuner, "val_right_hits", mode="max").sign == 1
    with pytest.raises(ValueError, match="'val_right_hits' should be large or small"):
        pareto(tuner, "val_right_hits")
    for name in (None, "val_right_hits"):
        with pytest.raises(ValueError, match="`mode` of a front must be one of 'auto', 'max'"):
            pareto(tuner, name, mode="bigger")


def test_size_at_quality_measures_the_start_once(tmp_path, monkeypatch):
    measured, measure = [], hypermodel_module.dense_quality
    monkeypatch.setattr(
        hypermodel_module,
        "dense_quality",
        lambda *args: measured.append(measure(*args)) or measured[-1],
    )
    start, space = network(), SearchSpace(budget=(0.45, 0.8), criterion="frobenius")
    goal = SizeAtQuality("val_loss", max_drop=9.0)
    for trials in (2, 3):  # the second goes on with the first
        hyper = hypermodel(start, space, objective=goal)
        search(tmp_path, hyper, hyper.objective, trials, fit={"epochs": 1})
    done = trials_of(random_search(tmp_path, hyper, hyper.objective))
    rows = [metrics_of(each) for each in done]
    assert [row["size_at_quality"] for row in rows] == [row["params_fraction"] for row in rows]
    assert len(rows) == 3
    assert measured == [pytest.approx(start.evaluate(X[32:], Y[32:], verbose=0)[0])]


def test_the_start_is_measured_on_validation_data_in_a_list_as_well():
    model, weights = network(), np.linspace(0.1, 2.0, len(X))
    for data in ((X, Y), (X, Y, weights)):
        found = [dense_quality(model, {"validation_data": kind(data)}, "val_loss")
                 for kind in (tuple, list)]  # fmt: skip
        assert found[0] == found[1] > 0


def test_the_start_is_measured_on_the_samples_that_fit_validates():
    model, wrong = network(), np.r_[(Y[:16] + 1) % 4, Y[16:]]
    more = {"batch_size": 8, "validation_batch_size": 32, "validation_steps": 1}
    found = dense_quality(model, {"validation_data": (X, wrong), **more}, "val_accuracy")
    model.optimizer.learning_rate = 0.0
    told = model.fit(X, Y, epochs=1, verbose=0, validation_data=(X, wrong), **more).history
    assert told["val_accuracy"] == [pytest.approx(found)]
    assert found != pytest.approx(model.evaluate(X[:8], wrong[:8], verbose=0)[1])
    searched = [training_of("RandomSearch", None, {"x": X} | more | {"validation_batch_size": size})
                for size in (8, 32)]  # fmt: skip
    assert searched[0]["training"] != searched[1]["training"]


def test_the_start_is_measured_on_as_many_batches_as_an_endless_dataset_is_trained_on():
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16).repeat()
    found = dense_quality(network(), {"x": endless, "steps_per_epoch": 2}, "loss")
    assert found == pytest.approx(network().evaluate(X[:32], Y[:32], verbose=0)[0], abs=1.0)


@pytest.mark.parametrize("batch", [5, 200])
def test_latency_is_of_as_many_samples_whatever_the_batches(batch, monkeypatch):
    import tensorflow as tf

    asked = []
    model = network()
    monkeypatch.setattr(model, "predict_on_batch", lambda x: asked.append(np.shape(x)))
    seconds_of_batch(model, tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch))
    seconds_of_batch(model, X)
    assert set(asked) == {(32, 12)}


def test_a_start_is_timed_and_measured_with_an_input_left_out():
    inputs = {"a": keras.Input((4,), optional=True, name="a"), "x": keras.Input((12,), name="x")}
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs["x"]))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    given = {"a": None, "x": X}
    assert seconds_of_batch(model, given) > 0
    arguments = {"x": given, "y": Y, "validation_split": 0.25}
    last = {"a": None, "x": X[math.floor(0.75 * len(X)) :]}
    expected = model.evaluate(last, Y[-len(last["x"]) :], verbose=0)
    assert dense_quality(model, arguments, "val_loss") == pytest.approx(expected)


# --- one trial as a function -----------------------------------------------------------


def test_settings_in_metrics_out(tmp_path):
    start = Start(network())
    given = {"budget": 0.6, "start": 0.3, "ramp": 0.3}
    runs = [
        evaluate_settings(start, SPACE, given, X, Y, seed=5, file=tmp_path / name, **FIT)
        for name in ("a.reducible", "b.reducible")
    ]
    assert runs[0] == runs[1]
    files = [(tmp_path / name).read_bytes() for name in ("a.reducible", "b.reducible")]
    assert files[0] == files[1]
    assert runs[0]["file_bytes"] == len(files[0])
    with pytest.raises(ValueError, match="`budget` must be chosen in"):
        evaluate_settings(start, SPACE, given | {"budget": 0.1}, X, Y, **FIT)


def test_the_fraction_of_a_file_is_that_of_budgets(tmp_path):
    start = Start(network(400))
    goal, budget = QualityAtSize("val_accuracy", limit=0.7, measure="file"), {"file": (0.6, 0.9)}
    run = evaluate_settings(
        start, SearchSpace(budget=budget), {"budget/file": 0.7}, X, Y, objective=goal, **FIT
    )
    dense = save_model(start.model, tmp_path / "dense.reducible").bytes
    assert 0.55 < run["file_fraction"] <= 0.7
    assert run["file_fraction"] == pytest.approx(run["file_bytes"] / dense, rel=0.08)
    assert run[goal.name] == run["val_accuracy"]


def test_fractions_of_the_file_are_of_one_dense_start(tmp_path, monkeypatch):
    looks = []
    look = file_bytes_while_dense
    monkeypatch.setattr(
        "reducible_train.tuner.start.file_bytes_while_dense", lambda m: looks.append(m) or look(m)
    )
    hyper = RankHyperModel(network(64), SearchSpace(budget=(0.45, 0.7)))
    tuner = keras_tuner.Hyperband(
        hyper, "val_loss", max_epochs=4, factor=2, directory=tmp_path, overwrite=True
    )
    tuner.search(X, Y, **{key: value for key, value in FIT.items() if key != "epochs"})
    trials = [each.metrics for each in tuner.oracle.trials.values()]
    dense = [m.get_best_value("file_bytes") / m.get_best_value("file_fraction") for m in trials]
    assert any("tuner/trial_id" in t.hyperparameters.values for t in tuner.oracle.trials.values())
    assert dense == pytest.approx([look(hyper.start.model)] * len(trials), rel=1e-9)
    assert looks == [hyper.start.model]


def test_the_dense_file_of_models_that_a_function_builds_is_of_their_size():
    start = Start(lambda hp: network(hp.Fixed("units", 24)))
    other, wide = keras_tuner.HyperParameters(), network(200)
    other.values["units"] = 200
    known = start.dense_file_bytes(network(), network().count_params())
    assert known == file_bytes_while_dense(start.model)
    size = wide.count_params()
    low = start.new_model(other)
    factorize(low, rank=2)
    whole = file_bytes_while_dense(wide)
    assert start.dense_file_bytes(low, size, other) == pytest.approx(whole, rel=0.02)


def test_a_trial_of_a_distiller_tells_and_keeps_its_student(tmp_path):
    def build():
        losses = keras.distillation.LogitsDistillation(temperature=2.0)
        model = keras.distillation.Distiller(network(), network(), losses)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    file = tmp_path / "student.reducible"
    start, given = Start(build), {"budget": 0.6, "start": 0.3, "ramp": 0.3}
    run = evaluate_settings(start, SPACE, given, X, Y, seed=5, file=file, **FIT)
    assert run["file_bytes"] == file.stat().st_size
    dense = start.model.student.count_params()
    assert run["params"] == load_model(file).count_params() < dense


class Fades(keras.callbacks.Callback):
    """The metric of the first epoch is the best, and the weights of the last are lost."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_accuracy"] = 1.0 / (epoch + 1)
        if epoch == self.params["epochs"] - 1:
            for variable in self.model.trainable_variables:
                variable.assign(variable * math.nan)


def test_the_report_in_the_file_of_a_trial_is_of_its_best_epoch(tmp_path):
    file, fit = tmp_path / "a.reducible", FIT | {"epochs": 3, "callbacks": [Fades()]}
    fit |= {"validation_split": 0.0, "validation_data": (X, Y), "monitor": "val_accuracy"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputErrorWarning)  # that it has diverged
        told = evaluate_settings(
            network(), SearchSpace(budget=(0.5, 0.8)), {"budget": 0.6}, X, Y, file=file, **fit
        )
    model = load_model(file)
    model.compile("sgd", network().loss)
    assert math.isfinite(told["val_loss"])
    at_end = read_report(file).answers.metrics
    assert at_end["loss"] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)


UNCOMPILED = keras.Sequential([keras.Input((12,)), keras.layers.Dense(4)])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"validation_split": 0.0}, "monitor='val_loss' in a fit without validation data"),
        ({"validation_split": 0.0, "monitor": "val_accuracy"}, "'val_accuracy' in a fit without"),
        ({"space": {"budget": (0.45, 0.8)}}, "`space` must be a SearchSpace"),
        ({"objective": "val_loss"}, "is asked for by monitor="),
        ({"mode": "bigger", "monitor": "accuracy"}, "`mode` of a search must be one of"),
        ({"seed": "a"}, "`seed` of a trial must be a whole number"),
        ({"rules": "hidden"}, "`rules` must hold LayerRule objects"),
        ({"epochs": 0}, "`epochs` of a trial must be a whole number"),
        ({"initial_epoch": 3}, "must have an epoch to train"),
        ({"settings": None}, "`settings` must be a value for each name.* Received: None"),
        ({"settings": [("budget", 0.6)]}, "`settings` must be a value for each name"),
        ({"settings": {"budget": 0.6, "start": 0.3, "ramp": 0.3, "shpe": "linear"}}, "'shpe' must"),
        ({"settings": {"budget": 0.6, "start": 0.3, "ramp": 0.3, "shape": "linear"}}, "settled it"),
        ({"start": UNCOMPILED}, "must be compiled, for a trial trains it"),
        ({"file": "/"}, "Received: '/', it is a folder"),
        ({"file": "/dev/null/a.reducible"}, "a file stands where a folder is wanted"),
        ({"file": "a.keras"}, "must not be named like one of Keras's"),
    ],
)
def test_a_trial_that_cannot_be_is_told_before_it_trains(more, words):
    given = {"space": SPACE, "settings": {"budget": 0.6, "start": 0.3, "ramp": 0.3}}
    with pytest.raises((ValueError, TypeError, OSError), match=words):
        evaluate_settings(x=X, y=Y, **({"start": network()} | given | FIT | more))


def test_a_trial_that_goes_on_keeps_ranks_and_rate_from_its_first_epoch():
    """As `Hyperband` continues trials: at the final ranks of its parent, all epochs count."""

    def build():
        model = network()
        factorize(model, budget=0.6)
        model.optimizer.learning_rate = 0.25  # as the parent has left it
        return model

    SEEN.clear()
    rates = []
    space = SearchSpace(budget=(0.5, 0.8), start=0.5, ramp=0.3, learning_rate=(1e-4, 1e-2))
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.append(float(note.model.optimizer.learning_rate))
    )
    fit = FIT | {"epochs": 4, "initial_epoch": 1, "callbacks": [Worse(), note]}
    given = {"budget": 0.6, "learning_rate": 1e-3}
    found = evaluate_settings(build, space, given, X, Y, monitor="score", mode="max", **fit)
    assert found["score"] == 0.99, "the best epoch is its first"
    assert rates == [0.25] * 3


def test_settings_begin_with_the_epoch_that_the_fit_does():
    seen = []
    space = SearchSpace(budget=(0.5, 0.8), start=0.0, ramp=0.5, learning_rate=(1e-4, 1e-2))
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            (float(note.model.optimizer.learning_rate), logs["params_fraction"])
        )
    )
    fit = FIT | {"epochs": 6, "initial_epoch": 2, "callbacks": note}  # a single one, as fit takes
    evaluate_settings(network(), space, {"budget": 0.6, "learning_rate": 1e-3}, X, Y, **fit)
    rates, sizes = zip(*seen, strict=True)
    assert rates == (pytest.approx(1e-3),) * 4
    assert sizes[0] == 1.0
    assert sizes[3] <= 0.6


def test_settings_come_as_keras_tuner_has_them():
    def build(hp):
        model = keras.models.clone_model(first)
        model.set_weights(first.get_weights())
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.optimizer.learning_rate = hp.Choice("rate", [0.5, 0.25])
        rates.append(float(model.optimizer.learning_rate))
        return model

    rates, first = [], network()
    hp = keras_tuner.HyperParameters()
    hp.values = {"budget": 0.6, "start": 0.3, "ramp": 0.3, "rate": 0.25}
    found = [evaluate_settings(build, SPACE, each, X, Y, seed=5, **FIT) for each in (hp, hp.values)]
    assert found[0] == found[1]
    assert rates[2::3] == [0.25, 0.25]
    inactive = {**hp.values, "of another branch": 3}
    with pytest.raises(ArgumentError, match="validation data"):  # and not a name of the settings
        evaluate_settings(build, SPACE, inactive, X, Y)


class Kept(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def test_the_best_settings_are_trained_anew_on_all_data():
    hp, all_data = keras_tuner.HyperParameters(), FIT | {"validation_split": 0.0}
    hp.values = {"budget": 0.6, "start": 0.0, "ramp": 0.0}
    hyper, kept = hypermodel(), Kept()
    model = hyper.build(hp)
    hyper.fit(hp, model, X, Y, **all_data, callbacks=[kept])
    for one, other in zip(model.get_weights(), kept.weights[-1], strict=True):
        np.testing.assert_array_equal(one, other)
    hyper, kept = hypermodel(objective=SizeAtQuality("val_accuracy", max_drop=0.9)), Kept()
    words = r"'val_accuracy' in a fit without validation data.* To train on all data"
    with pytest.raises(ArgumentError, match=words):
        hyper.fit(hp, hyper.build(hp), X, Y, **all_data, callbacks=[kept])
    assert not kept.weights
    found = hyper.fit(hp, hyper.build(hp), X, Y, **FIT)
    assert found["size_at_quality"] == found["params_fraction"] < 0.7


def test_a_low_rank_start_stays_one():
    model = network()
    factorize(model, budget=0.6)
    assert ranks(Start(model).new_model()) == ranks(model) != {}
