"""What a criterion or an aid needs is checked when a fit begins, not at its first cut."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from reducible_train import ArgumentError, Guard, Ramp, RankScheduler, Regrow, TailShrink, factorize

L = keras.layers
LATE = Ramp(1.0, 0.7, start_epoch=3, end_epoch=4)


class OwnStep(keras.Model):
    """Makes its loss in its own training step, as autoencoders and contrastive learners do."""

    def train_step(self, data):
        x = keras.utils.unpack_x_y_sample_weight(data)[0]
        with tf.GradientTape() as tape:
            loss = keras.ops.mean((self(x, training=True) - x) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


class OwnLoss(OwnStep):
    """Says what its loss is, so that anybody can ask."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean((y_pred - x) ** 2)


class Parts(keras.Model):
    """Trains its parts, and is never called itself."""

    def __init__(self):
        super().__init__()
        self.inner = chain(keras.Model)

    def train_step(self, data):
        return {"loss": keras.ops.sum(self.inner(data)) * 0.0}


class Pairs(OwnStep):
    """Takes from a batch what its call cannot be given."""

    def train_step(self, data):
        return super().train_step((data[0]["left"],))


def chain(kind, size=16):
    given = keras.Input((size,))
    return kind(given, L.Dense(size)(L.Dense(24, "relu")(given)))


def fitted(model, data, loss=None, epochs=5, **settings):
    model.compile("sgd", loss)
    seen = []
    ends = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    scheduler = RankScheduler(budget=LATE, **settings)
    try:
        model.fit(*data, epochs=epochs, batch_size=16, verbose=0, callbacks=[ends, scheduler])
    except ArgumentError as error:
        return len(seen), str(error)
    return None, scheduler


X = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")


@pytest.mark.parametrize("settings", [{"criterion": "fisher"}, {"aids": [Regrow()]}])
@pytest.mark.parametrize(
    ("make", "loss", "says"),
    [
        (lambda: chain(OwnStep), None, "only its own train_step knows"),
        (lambda: chain(OwnStep), "mse", "whose data has none"),
        (Parts, None, "cannot be called: it has no `call`"),
    ],
)
def test_gradients_that_nobody_can_take_are_refused_before_the_first_step(
    make, loss, says, settings
):
    model = make()
    if not model.built:
        model.built = True  # as Keras leaves a model whose parts have weights
    steps, message = fitted(model, (X,), loss, **settings)
    assert steps == 0
    assert says in message
    assert "Received" in message


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_a_model_that_says_its_loss_can_be_listened_to(criterion):
    _, scheduler = fitted(chain(OwnLoss), (X,), criterion=criterion)
    assert {k.criterion for cut in scheduler.report.cuts for k in cut.kernels} == {criterion}
    told = scheduler.report.notes
    assert any("not to what else its own train_step does" in n for n in told)
    assert any("A third part is read as sample weights where it fits" in n for n in told)


def test_what_a_model_cannot_be_called_on_is_told_before_the_first_step():
    model = chain(Pairs)
    data = ({"left": X, "right": X},)
    steps, message = fitted(model, (data[0], X), criterion="activation")
    assert steps == 0
    assert "must be inputs of model 'pairs': (None, 16)" in message


def test_what_nobody_asked_for_is_done_without():
    data = ({"left": X, "right": X}, X)
    steps, scheduler = fitted(chain(Pairs), data)
    assert steps is None, scheduler
    assert {k.criterion for cut in scheduler.report.cuts for k in cut.kernels} == {"frobenius"}


class FromOne(keras.Model):
    """Takes classes that are counted from 1."""

    def train_step(self, data):
        return super().train_step((data[0], data[1] - 1))


@pytest.mark.parametrize("source", ["arrays", "batches"])
@pytest.mark.parametrize("criterion", ["auto", "fisher"])
def test_labels_that_only_a_step_of_ones_own_reads_are_no_mistake(criterion, source):
    y = 1 + np.arange(len(X)) % 16
    batches = tf.data.Dataset.from_tensor_slices((X, y)).batch(16)
    data = (X, y) if source == "arrays" else (batches,)
    model = chain(FromOne)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    scheduler = RankScheduler(0.7, criterion=criterion)
    fitting = {"verbose": 0, "shuffle": False, "callbacks": [scheduler]}
    if criterion == "fisher":
        with pytest.raises(ArgumentError, match=r"from 0 to 15.* Received: 16"):
            model.fit(*data, **fitting)
        return
    model.fit(*data, **fitting)
    assert {k.criterion for cut in scheduler.report.cuts for k in cut.kernels} == {"activation"}
    assert any("Received: 16 in the samples" in note for note in scheduler.report.notes)


class Triplets(keras.Model):
    """Learns that an anchor is nearer to its positive than to its negatives."""

    def __init__(self, *, together):
        super().__init__()
        self.inner, self.together = chain(keras.Model), together

    def call(self, x):
        return [self.inner(each) for each in x] if self.together else self.inner(x)

    def train_step(self, data):
        with tf.GradientTape() as tape:
            anchor, near, *far = [self.inner(each, training=True) for each in data]
            loss = keras.ops.mean((anchor - near) ** 2 - sum((anchor - f) ** 2 for f in far))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}

    def test_step(self, data):
        return {"loss": keras.ops.mean(self.inner(data[0]))}


@pytest.mark.parametrize("criterion", ["auto", "activation"])
@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize("together", [False, True])
def test_parts_that_are_no_targets_and_weights_are_not_taken_for_them(together, count, criterion):
    model, scheduler = Triplets(together=together), RankScheduler(0.7, criterion=criterion)
    model([X[:1]] * count if together else X[:1])
    model.compile("sgd")
    data = tf.data.Dataset.from_tensor_slices((X,) * count).batch(16)
    fitting = {"validation_data": data, "shuffle": False, "verbose": 0, "callbacks": [scheduler]}
    if together and criterion != "auto":
        with pytest.raises(ArgumentError, match=r"calibration=\[anchors, positives, negatives\]"):
            model.fit(data, **fitting)
        return
    model.fit(data, **fitting)
    judged = {k.criterion for cut in scheduler.report.cuts for k in cut.kernels}
    assert judged == {"frobenius" if together else "activation"}
    told = " ".join(scheduler.report.notes)
    assert ("calibration=[anchors, positives, negatives]" in told) == together
    assert "once each" not in told


@pytest.mark.parametrize("criterion", ["activation", "fisher"])
def test_samples_that_cannot_be_run_are_refused_before_the_first_step(criterion):
    class Picky(L.Layer):
        def call(self, x):
            if keras.ops.shape(x)[1] != 16:
                raise ValueError("sixteen, please")
            return x

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.wide, self.last = Picky(), L.Dense(24), L.Dense(16)

        def call(self, x):
            return self.last(self.wide(self.first(x)))

    model = Own()
    model(X[:1])
    steps, message = fitted(model, (X, X), "mse", criterion=criterion, calibration=(X[:, :9], X))
    assert steps == 0
    assert "cannot be run on the calibration samples" in message


def test_a_loss_of_layers_alone_is_a_loss():
    """`add_loss` and no target: fisher takes gradients of what there is."""

    class Shrinks(L.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))
            return x

    given = keras.Input((16,))
    model = keras.Model(given, L.Dense(3)(Shrinks()(L.Dense(24)(given))))
    model.compile("adam")
    report = factorize(model, rank=2, criterion="fisher", calibration=X)
    assert report.ranks


def test_an_aid_that_looks_ahead_is_refused_where_it_is_made():
    with pytest.raises(ArgumentError, match="TailShrink must know"):
        RankScheduler(budget=LATE, guard=Guard("loss", max_drop=0.1), aids=[TailShrink()])
