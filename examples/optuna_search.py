"""Optuna in place of keras-tuner: NSGA-II over accuracy and size, by several processes.

The trials are kept in a journal file that all processes share; run it again, and it goes on.

    pip install '.[optuna]'; python examples/optuna_search.py --processes 4
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path

import keras
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from reducible_train.datasets import load
from reducible_train.errors import ReducibleError
from reducible_train.tuner import SearchSpace, Start, evaluate_settings

SPACE = SearchSpace(
    budget=(0.1, 0.5), learning_rate=(1e-4, 3e-3), allocation=("knapsack", "equal_energy")
)
ENDED = (TrialState.COMPLETE, TrialState.FAIL)
optuna.logging.set_verbosity(optuna.logging.WARNING)  # in each process


def trained(path: Path) -> None:
    """Stands for the model you have."""
    data = load("digits")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((data.features,))])
    for index in (1, 2):
        model.add(keras.layers.Dense(128, activation="relu", name=f"hidden_{index}"))
    model.add(keras.layers.Dense(data.classes, activation="softmax", name="output"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.x_train, data.y_train, epochs=8, verbose=0)
    model.save(path)


def settings_of(trial: optuna.Trial) -> dict:
    """A value for everything that is searched."""
    chosen = {}
    for domain in SPACE.domains:
        if domain.is_searched and not domain.is_range:
            chosen[domain.name] = trial.suggest_categorical(domain.name, domain.values)
        elif domain.is_searched and domain.whole:
            chosen[domain.name] = trial.suggest_int(domain.name, *domain.values, log=domain.log)
        elif domain.is_searched:
            chosen[domain.name] = trial.suggest_float(domain.name, *domain.values, log=domain.log)
    return chosen


def opened(journal: str) -> optuna.Study:
    """The study of the journal, which every process opens."""
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(journal)),
        study_name="digits",
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.NSGAIISampler(population_size=8),
        load_if_exists=True,
    )


def work(journal: str, model: str, trials: int, epochs: int) -> None:
    """Trials of one process, until there are enough of all."""
    study = opened(journal)
    if len(study.get_trials(deepcopy=False, states=ENDED)) >= trials:
        return
    data = load("digits")
    start = Start(model)  # read once

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        metrics = evaluate_settings(
            start,
            SPACE,
            settings_of(trial),
            data.x_train,
            data.y_train,
            validation_data=(data.x_val, data.y_val),
            monitor="val_accuracy",
            file=Path(journal).with_name(f"trial_{trial.number}.reducible"),
            seed=trial.number,
            epochs=epochs,
            verbose=0,
        )
        return metrics["val_accuracy"], metrics["params_fraction"]

    # What cannot be done is a failed trial, not the end of the search; it counts as one.
    enough = optuna.study.MaxTrialsCallback(trials, states=ENDED)
    study.optimize(objective, callbacks=[enough], catch=(ReducibleError,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=3, help="of a trial")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("optuna_search"))
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    model = args.folder / "model.keras"
    if not model.exists():
        trained(model)
    told = (str(args.folder / "journal.log"), str(model), args.trials, args.epochs)
    broken = 0
    if args.processes == 1:
        work(*told)
    else:
        fresh = multiprocessing.get_context("spawn")  # a forked TensorFlow hangs
        processes = [fresh.Process(target=work, args=told) for _ in range(args.processes)]
        for each in processes:
            each.start()
        for each in processes:
            each.join()
        broken = sum(each.exitcode != 0 for each in processes)
    front = sorted(opened(told[0]).best_trials, key=lambda trial: trial.values[1])
    for trial in front:
        accuracy, size = trial.values
        print(f"trial {trial.number:3}  {size:6.1%} of the parameters, accuracy {accuracy:.4f}")
    print(f"{len(front)} trials on the front; their files are in {args.folder}")
    if broken:
        raise SystemExit(f"{broken} of {args.processes} processes ended early; run it again")


if __name__ == "__main__":
    main()
