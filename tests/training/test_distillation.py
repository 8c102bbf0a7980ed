"""Keras's `Distiller`: the student is what is compressed, the teacher stays as it is."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import zoo

from reducible_train import (
    FormatError,
    Guard,
    PiecewiseConstant,
    ProductDecay,
    Ramp,
    RankError,
    RankModelCheckpoint,
    RankScheduler,
    Rewarm,
    analyze,
    factorize,
    load_model,
    read_report,
    save_model,
)
from reducible_train.layers import find_kernels
from reducible_train.selection.survey import survey

pytestmark = pytest.mark.filterwarnings("ignore::reducible_train.errors.ShortfallWarning")

HARD = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RAMP = Ramp(1.0, 0.6, start_epoch=0, end_epoch=2)


def distiller(teacher=None, *more):
    """A teacher, a student that starts as it, and the model that trains the student."""
    teacher = teacher or zoo.sequential()
    student = zoo.sequential()
    losses = [keras.distillation.LogitsDistillation(temperature=3.0), *more]
    made = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.5)
    made.compile("adam", HARD, metrics=["accuracy"])
    return made


def test_an_analysis_is_of_the_student_and_serves_its_training():
    model = distiller()
    x, y = zoo.data(model.teacher)
    before = [model.teacher.get_weights(), model.student.get_weights()]
    table = analyze(model, (x, y), ratios=(0.2, 0.6))
    assert table.baseline == pytest.approx(
        model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    )
    assert table.model == model.student.name
    for was, now in zip(before, (model.teacher, model.student), strict=True):
        for old, new in zip(was, now.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    found = survey(model.student)
    assert table.paths == tuple(each.kernel.path for each in found.compressible)
    assert all(each.parameters > 0.1 for each in table.kernels), "of the student alone"
    scheduler = RankScheduler(0.5, criterion="measured", analysis=table)
    model.fit(x, y, epochs=1, callbacks=[scheduler], verbose=0)
    assert scheduler.report.ranks
    again = analyze(model, (x, y), metric=lambda it: float(it is model), ratios=(0.5,))
    assert again.baseline == 1.0


@pytest.mark.parametrize(
    "criterion", ["frobenius", "activation", pytest.param("fisher", marks=pytest.mark.traced)]
)
def test_the_student_is_compressed_and_the_teacher_is_not(criterion):
    features = keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="first", student_layer_name="first"
    )
    model = distiller(None, *([features] if criterion == "frobenius" else []))
    teacher, student = model.teacher, model.student
    x, y = zoo.data(teacher)
    before = teacher.get_weights()
    dense = student.count_params()
    scheduler = RankScheduler(
        budget=RAMP, criterion=criterion, aids=[ProductDecay(), Rewarm(epochs=1)]
    )
    history = model.fit(
        x, y, epochs=3, validation_data=(x, y), callbacks=[scheduler], verbose=0
    ).history
    assert history["params"][0] == dense > 0.6 * dense >= history["params"][-1]
    assert student.count_params() == scheduler.report.parameters == history["params"][-1]
    assert set(scheduler.report.ranks) == {"first/kernel", "second/kernel"}
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert all(kernel.rank is None for kernel in find_kernels(teacher))
    predicted = zoo.predicted(model, x)
    np.testing.assert_allclose(predicted, zoo.outputs(student, x), atol=1e-5)
    np.testing.assert_allclose(predicted, zoo.predicted(student, x), atol=1e-6)
    np.testing.assert_allclose(
        history["val_accuracy"][-1], (predicted.argmax(-1) == y).mean(), atol=1e-6
    )


@pytest.mark.parametrize(
    "eager", [True, pytest.param(False, marks=pytest.mark.traced)], ids=["eager", "traced"]
)
def test_the_product_of_the_student_s_factors_is_penalised(eager):
    def trained(weight):
        keras.utils.set_random_seed(3)
        model = distiller()
        model.run_eagerly = eager
        x, y = zoo.data(model.teacher)
        factorize(model.teacher, rank=6)
        fall = PiecewiseConstant((8, 4), (0, 2))
        scheduler = RankScheduler(rank=fall, aids=[ProductDecay(weight)])
        data = {"validation_data": (x, y), "verbose": 0}
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            history = model.fit(x, y, epochs=3, callbacks=[scheduler], **data).history
        assert "compute_loss" not in vars(model)
        assert model.losses == []
        again = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        np.testing.assert_allclose(scheduler.report.answers.metrics["loss"], again, rtol=1e-4)
        kernels = [k for k in find_kernels(model.student) if k.rank is not None]
        return history, again, [np.linalg.norm(u @ v) for u, v in (k.matrices() for k in kernels)]

    history, plain, norms = trained(0.0)
    np.testing.assert_allclose(history["val_loss"][-1], plain, rtol=1e-4)
    history, penalised, smaller = trained(2.0)
    added = 2.0 * sum(norm**2 for norm in smaller)
    np.testing.assert_allclose(history["val_loss"][-1], penalised + added, rtol=1e-4)
    assert all(one < other for one, other in zip(smaller, norms, strict=True))


def test_a_factorised_teacher_stays_too_and_is_not_what_a_student_needs():
    teacher = zoo.sequential()
    factorize(teacher, rank=6)
    model = distiller(teacher)
    x, y = zoo.data(teacher)
    model.fit(x, y, epochs=2, callbacks=[RankScheduler(rank=4, aids=[ProductDecay()])], verbose=0)
    ranks = [{k.path: k.rank for k in find_kernels(m)} for m in (teacher, model.student)]
    assert ranks[0]["first/kernel"] == 6
    assert ranks[1]["first/kernel"] == 4
    with pytest.raises(RankError, match="model 'stack'"):
        model.fit(x, y, callbacks=[RankScheduler(budget=1e-3)], verbose=0)


def test_a_guard_brings_the_student_back():
    model = distiller()
    x, y = zoo.data(model.teacher)
    guard = Guard("loss", max_drop=0.0, patience=1, tries=1)
    dense = model.student.count_params()
    scheduler = RankScheduler(rank=PiecewiseConstant((24, 1), (0, 2)), guard=guard)
    history = model.fit(x, y, epochs=4, callbacks=[scheduler], verbose=0).history
    assert len(scheduler.report.undone) == 1
    assert history["params"][2] < dense
    assert history["params"][-1] == model.student.count_params() == dense
    np.testing.assert_allclose(zoo.predicted(model, x), zoo.outputs(model.student, x), atol=1e-5)


def test_the_student_goes_its_own_way(tmp_path):
    model = distiller()
    x, y = zoo.data(model.teacher)
    scheduler = RankScheduler(rank=4)
    model.fit(x, y, epochs=2, callbacks=[scheduler], verbose=0)
    expected = zoo.predicted(model.student, x)
    save_model(model.student, tmp_path / "student.reducible", scheduler.report)
    again = load_model(tmp_path / "student.reducible")
    np.testing.assert_allclose(zoo.predicted(again, x), expected, atol=1e-6)
    model.student.save(tmp_path / "student.keras")
    again = keras.models.load_model(tmp_path / "student.keras")
    np.testing.assert_allclose(zoo.predicted(again, x), expected, atol=1e-6)


@pytest.mark.parametrize("best_only", [True, False])
def test_a_checkpoint_writes_the_student_alone(best_only, tmp_path):
    model = distiller()
    x, y = zoo.data(model.teacher)
    scheduler = RankScheduler(rank=4)
    file = tmp_path / "best.reducible"
    best = RankModelCheckpoint(scheduler, file, "loss", save_best_only=best_only)
    model.fit(x, y, epochs=1, callbacks=[scheduler, best], verbose=0)
    again = load_model(file)
    assert again.name == model.student.name
    np.testing.assert_allclose(zoo.predicted(again, x), zoo.predicted(model.student, x), atol=1e-6)
    assert read_report(file).ranks == scheduler.report.ranks
    save_model(model.student, tmp_path / "student.reducible", scheduler.report)
    assert abs(file.stat().st_size - (tmp_path / "student.reducible").stat().st_size) < 200


def test_a_whole_distiller_comes_back_with_the_classes_that_are_asked_for(tmp_path):
    model = distiller()
    x, _ = zoo.data(model.teacher)
    with pytest.warns(UserWarning, match="will be written|is written"):
        saved = save_model(model, tmp_path / "both.reducible")
    classes = {
        "Distiller": keras.distillation.Distiller,
        "LogitsDistillation": keras.distillation.LogitsDistillation,
        "kl_divergence": keras.losses.kl_divergence,
    }
    assert set(saved.custom_objects) == set(classes)
    again = load_model(tmp_path / "both.reducible", classes)
    np.testing.assert_allclose(zoo.predicted(again, x), zoo.predicted(model, x), atol=1e-6)
    del classes["LogitsDistillation"]
    with pytest.raises(FormatError, match=r"pass custom_objects={'LogitsDistillation': "):
        load_model(tmp_path / "both.reducible", classes)
