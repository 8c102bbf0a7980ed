"""The ways to a small network that `published.py` compares.

All begin with the same dense weights, see the same samples for equally many epochs, and go on
from the dense control's own checkpoints, optimizer included, where they were dense until then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from common import adam, compile_model

from reducible_train import LayerRule, Ramp, RankScheduler, factorize
from reducible_train.datasets import Dataset
from reducible_train.linalg.svd import singular_spectrum, stable_rank

OUTPUT_TOO = LayerRule("output", keep_dense=False)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained; the same for every way.

    Args:
        build: Makes the dense network, not compiled.
        epochs: Epochs of every way, the dense control included.
        learning_rate: Adam's, where its one cosine decay over all epochs begins.
        image: Shape a sample is given, or `None` to leave it flat.
        warmup: Dense epochs before the first cut of a ramp.
        ramp_end: Epoch of its last cut.
        batch_size: Samples in a step.
        measure: What a budget counts.
        rules: Rules for single layers.
    """

    build: Callable[[], keras.Model]
    epochs: int
    learning_rate: float
    image: tuple[int, ...] | None = None
    warmup: int = 2
    ramp_end: int = 4
    batch_size: int = 128
    measure: str = "parameters"
    rules: tuple[LayerRule, ...] = ()

    @property
    def late_epoch(self) -> int:
        """Where the way that cuts late does so."""
        return 3 * self.epochs // 4


class Trainer:
    """One seed of one network: the dense control, then whatever goes on from its checkpoints."""

    def __init__(self, recipe: Recipe, data: Dataset, seed: int, folder: Path):
        self.recipe, self.data, self.seed, self.folder = recipe, data, seed, folder
        self.x = self.shaped(data.x_train)
        self.shared = 0.0  # processor seconds of the dense epochs the last model went on from
        self._spent: dict[int, float] = {}

    def shaped(self, x: np.ndarray) -> np.ndarray:
        """Samples as the network takes them."""
        return x if self.recipe.image is None else x.reshape(-1, *self.recipe.image)

    def dense(self) -> keras.Model:
        """The dense control; leaves a checkpoint wherever a way goes on."""
        keras.utils.set_random_seed(self.seed)
        recipe = self.recipe
        optimizer = adam(recipe.learning_rate, recipe.epochs, len(self.x), recipe.batch_size)
        model = compile_model(recipe.build(), optimizer)
        started = time.process_time()
        stops = sorted({0, recipe.warmup, recipe.late_epoch, recipe.epochs})
        for last, first in zip(stops, [0, *stops], strict=False):
            self._train(model, first, last)
            self._spent[last] = time.process_time() - started
            model.save(self._checkpoint(last))
        return model

    def ramp(self, budget: float, **settings) -> keras.Model:
        """Dense for `warmup` epochs, ranks falling until `ramp_end`, trained to the end."""
        recipe = self.recipe
        model = self._resumed(recipe.warmup)
        scheduler = RankScheduler(
            budget=Ramp(1.0, budget, recipe.warmup - 1, recipe.ramp_end),
            measure=recipe.measure,
            rules=recipe.rules,
            **settings,
        )
        self._train(model, recipe.warmup, recipe.epochs, [scheduler])
        return model

    def defaults(self, budget: float) -> keras.Model:
        """The budget alone after as many dense epochs: no schedule, rule, aid, or way to judge."""
        recipe = self.recipe
        model = self._resumed(recipe.warmup)
        self._train(model, recipe.warmup, recipe.epochs, [RankScheduler(budget)])
        return model

    def late_cut(self, budget: float) -> keras.Model:
        """Dense for three quarters of the epochs, cut at once, fine-tuned for the rest."""
        model = self._resumed(self.recipe.late_epoch)
        self._cut(model, budget, "equal_energy")
        self._train(model, self.recipe.late_epoch, self.recipe.epochs)
        return model

    def scratch(self, budget: float) -> keras.Model:
        """Low rank from the start: uniform ranks, both factors drawn at random."""
        model = self._resumed(0)
        self._cut(model, budget, "uniform")
        draw = keras.initializers.GlorotUniform(self.seed)
        for variable in model.trainable_variables:
            if variable.name in ("kernel_u", "kernel_v"):
                variable.assign(draw(variable.shape))
        self._train(model, 0, self.recipe.epochs)
        return model

    def ancestor(self, budget: float) -> keras.Model:
        """The trained dense network cut alike in every layer, the output layer too."""
        model = self._resumed(self.recipe.epochs)
        named = any(rule.match == "output" for rule in self.recipe.rules)
        self._cut(model, budget, "uniform", () if named else [OUTPUT_TOO])
        return model

    def stable_rank(self) -> keras.Model:
        """Cuttlefish's rule, restated: one cut when the stable ranks have settled.

        Dense until no layer's stable rank changes by more than a tenth of itself in an epoch
        (the paper's 0.1 is in ranks, which networks as wide as these do not come below so soon),
        or half of the epochs are over; then each rank is the stable rank times what it was too
        small by before training; a new optimizer state, its learning rate warmed up again
        over an epoch.
        """
        model = self._resumed(0)
        kernels = [layer for layer in model.layers[:-1] if hasattr(layer, "kernel")]
        first = [_stable_rank(layer) for layer in kernels]
        last, epoch = first, 0
        while epoch < self.recipe.epochs // 2:
            self._train(model, epoch, epoch + 1)
            epoch += 1
            now = [_stable_rank(layer) for layer in kernels]
            slopes = [abs(a - b) / b for a, b in zip(now, last, strict=True)]
            last = now
            if max(slopes) <= 0.1:
                break
        rules = []
        for layer, begun, found in zip(kernels, first, last, strict=True):
            full = min(_matrix(layer).shape)
            rules.append(LayerRule(layer.name, rank=max(1, round(found * full / begun))))
        factorize(model, energy=1.0, rules=rules)
        steps = math.ceil(len(self.x) / self.recipe.batch_size)
        left = (self.recipe.epochs - epoch) * steps
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, left - steps, warmup_target=self.recipe.learning_rate, warmup_steps=steps
        )
        compile_model(model, keras.optimizers.Adam(rate))
        self._train(model, epoch, self.recipe.epochs)
        return model

    # --- inside -------------------------------------------------------------------------

    def _checkpoint(self, epoch: int) -> Path:
        return self.folder / f"dense_{epoch}.keras"

    def _resumed(self, epoch: int) -> keras.Model:
        self.shared = self._spent[epoch]
        return keras.models.load_model(self._checkpoint(epoch))

    def _train(self, model: keras.Model, first: int, last: int, callbacks: Sequence = ()) -> None:
        """Epochs `first` to `last`; the order of the samples depends on seed and `first`."""
        if first == last:
            return
        keras.utils.set_random_seed(1000 * self.seed + first)
        model.fit(
            self.x,
            self.data.y_train,
            batch_size=self.recipe.batch_size,
            initial_epoch=first,
            epochs=last,
            callbacks=list(callbacks),
            verbose=0,
        )

    def _cut(
        self, model: keras.Model, budget: float, allocation: str, rules: Sequence[LayerRule] = ()
    ) -> None:
        factorize(
            model,
            budget=budget,
            measure=self.recipe.measure,
            allocation=allocation,
            rules=[*rules, *self.recipe.rules],
        )


def _matrix(layer: keras.Layer) -> np.ndarray:
    kernel = np.asarray(layer.kernel)
    return kernel.reshape(-1, kernel.shape[-1])


def _stable_rank(layer: keras.Layer) -> float:
    return stable_rank(singular_spectrum(_matrix(layer)))
