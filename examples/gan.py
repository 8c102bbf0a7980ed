"""A GAN with a training step of its own, whose generator gets smaller while both are trained.

python examples/gan.py
"""

from __future__ import annotations

import argparse
from typing import Any

import keras
import tensorflow as tf

from reducible_train import LayerRule, Ramp, RankScheduler
from reducible_train.datasets import load

NOISE = 16


class GAN(keras.Model):
    """Two networks with an optimizer each; the callback finds both, by whatever name."""

    def __init__(self, features: int):
        super().__init__()
        dense = keras.layers.Dense
        self.generator = keras.Sequential(
            [
                keras.Input((NOISE,)),
                dense(128, activation="relu", name="from_noise"),
                dense(128, activation="relu", name="middle"),
                dense(features, activation="sigmoid", name="pixels"),
            ]
        )
        self.critic = keras.Sequential(
            [keras.Input((features,)), dense(128, activation="relu"), dense(1)]
        )

    def compile(self, **optimizers: Any) -> None:
        """With `generator_optimizer=` and `critic_optimizer=`."""
        super().compile()
        self.generator_optimizer = optimizers["generator_optimizer"]
        self.critic_optimizer = optimizers["critic_optimizer"]

    def call(self, noise: Any) -> Any:
        return self.generator(noise)

    def train_step(self, real: Any) -> dict[str, Any]:
        noise = keras.random.normal((keras.ops.shape(real)[0], NOISE))
        with tf.GradientTape(persistent=True) as tape:
            made = self.generator(noise)
            right, wrong = self.critic(real), self.critic(made)
            for_critic = tf.reduce_mean(tf.nn.softplus(-right) + tf.nn.softplus(wrong))
            for_generator = tf.reduce_mean(tf.nn.softplus(-wrong))
        for loss, part, optimizer in (
            (for_critic, self.critic, self.critic_optimizer),
            (for_generator, self.generator, self.generator_optimizer),
        ):
            variables = part.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return {"critic": for_critic, "generator": for_generator}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    data = load("digits")
    keras.utils.set_random_seed(0)
    model = GAN(data.features)
    model.compile(
        generator_optimizer=keras.optimizers.Adam(1e-3),
        critic_optimizer=keras.optimizers.Adam(5e-4),
    )
    scheduler = RankScheduler(
        Ramp(1.0, 0.6, start_epoch=1, end_epoch=max(2, args.epochs // 2)),
        rules=[LayerRule("critic/*", keep_dense=True)],  # only the generator is shipped
    )
    history = model.fit(data.x_train, epochs=args.epochs, callbacks=[scheduler], verbose=0)
    print(scheduler.report)
    told = ", ".join(f"{name} {history.history[name][-1]:.3f}" for name in ("critic", "generator"))
    print(f"losses at the end: {told}")


if __name__ == "__main__":
    main()
