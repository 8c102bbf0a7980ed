"""Distillation: a student that starts as its teacher, and whose ranks fall, learns from both.

python examples/distill.py                        # digits, seconds
python examples/distill.py --data mnist --epochs 16
"""

from __future__ import annotations

import argparse

import keras

from reducible_train import Ramp, RankScheduler, load_model, save_model
from reducible_train.datasets import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits", help="digits, mnist or fashion_mnist")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--out", default="student.reducible")
    args = parser.parse_args()

    data = load(args.data)
    keras.utils.set_random_seed(1)
    teacher = keras.Sequential(
        [
            keras.Input((data.features,)),
            keras.layers.Dense(256, activation="relu", name="hidden_1"),
            keras.layers.Dense(256, activation="relu", name="hidden_2"),
            keras.layers.Dense(data.classes, name="output"),
        ]
    )
    hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile("adam", hard, metrics=["accuracy"])
    teacher.fit(data.x_train, data.y_train, epochs=args.epochs, verbose=2)

    student = keras.models.clone_model(teacher)
    student.set_weights(teacher.get_weights())
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        keras.distillation.LogitsDistillation(temperature=3.0),
        student_loss_weight=0.5,
    )
    distiller.compile("adam", hard, metrics=["accuracy"])

    # The budget, the ranks and the report are the student's alone.
    end = max(1, args.epochs // 2)
    scheduler = RankScheduler(budget=Ramp(1.0, 0.2, start_epoch=0, end_epoch=end))
    distiller.fit(
        data.x_train,
        data.y_train,
        epochs=args.epochs,
        validation_data=(data.x_val, data.y_val),
        callbacks=[scheduler],
        verbose=2,
    )
    print(scheduler.report)

    save_model(student, args.out, scheduler.report)
    for name, model in (("teacher", teacher), ("student", load_model(args.out))):
        model.compile(loss=hard, metrics=["accuracy"])
        _, accuracy = model.evaluate(data.x_test, data.y_test, verbose=0)
        print(f"{name}: {model.count_params():,} parameters, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
