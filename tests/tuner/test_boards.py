"""A search in TensorBoard: what is searched, with its domains, and what each trial came to."""

from __future__ import annotations

import keras
from hparams_page import asked_of_the_server
from searches import FIT, X, Y, hypermodel, metrics_of, network, search, trials_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from reducible_train import SearchSpace
from reducible_train.tensorboard.tags import from_json
from reducible_train.tuner import evaluate_settings


def read(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


class Worse(keras.callbacks.Callback):
    """Each epoch is worse than the one before."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_accuracy"] = 0.9 - 0.1 * epoch


def test_hparams_has_domains_and_three_metrics(tmp_path):
    space = SearchSpace(
        budget=(0.5, 0.8), shape=("linear", "cubic"), min_rank={"hidden": (1, 2)}, multiple=None
    )
    board = keras.callbacks.TensorBoard(tmp_path / "logs", write_graph=False)
    fit = {"callbacks": [board, Worse()], "epochs": 2}
    tuner = search(tmp_path, hypermodel(space=space), "val_accuracy", 2, fit=fit)
    (root,) = (tmp_path / "logs").glob("events*")
    content = read(root).SummaryMetadata("_hparams_/experiment").plugin_data.content
    told = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    domains = {each.name: each for each in told.hparam_infos}
    assert sorted(domains) == ["budget", "min_rank/hidden", "shape"]
    ends = domains["budget"].domain_interval
    assert (ends.min_value, ends.max_value) == (0.5, 0.8)
    words = sorted(each.string_value for each in domains["shape"].domain_discrete.values)
    assert words == ["cubic", "linear"]
    tags = [each.name.tag.removeprefix("reducible/") for each in told.metric_infos]
    assert tags == ["val_accuracy", "params_fraction", "flops_fraction"]
    rows = asked_of_the_server(tmp_path / "logs")["groups"]
    sessions = [each.name for group in rows for each in group.sessions]
    assert sorted(sessions) == [f"{each.trial_id}/execution0" for each in trials_of(tuner)]
    for group in rows:
        assert set(group.hparams) == {"budget", "min_rank/hidden", "shape"}
        (session,) = group.sessions
        assert len(session.metric_values) == 3
    for trial in trials_of(tuner):
        own = read(tmp_path / "logs" / trial.trial_id / "execution0" / "reducible")
        told = from_json(own.Tensors("reducible/outcome")[-1].tensor_proto.string_val[0])
        points = {each.step: each for each in own.Tensors("reducible/val_accuracy")}
        (value,) = points[told["kept_step"]].tensor_proto.float_val
        assert abs(value - metrics_of(trial)["val_accuracy"]) < 1e-6
        (run,) = (tmp_path / "logs" / trial.trial_id).glob("*/trial")
        written = read(run).Tensors("reducible/params_fraction")
        (value,) = written[0].tensor_proto.float_val
        assert abs(value - metrics_of(trial)["params_fraction"]) < 1e-6


def test_a_trial_of_another_engine_is_a_row_by_itself(tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    settings = {"budget": 0.6}
    fit = FIT | {"epochs": 1, "callbacks": [board]}
    evaluate_settings(network(), SearchSpace(budget=(0.5, 0.8)), settings, X, Y, **fit)
    (row,) = asked_of_the_server(tmp_path)["groups"]
    assert row.hparams["final"].number_value == 0.6
