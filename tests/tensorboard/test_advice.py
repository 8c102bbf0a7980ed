"""Laws of the sentences of advice: what is known is said with its number, nothing else is."""

from __future__ import annotations

import pytest

from reducible_train.tensorboard.plugin.advice import advice


def layer(name="d1", **more):
    empty = dict.fromkeys(
        ("rank", "last_rank", "full", "energy", "output_error", "parameters", "break_even")
    )
    return {"name": name, "path": f"{name}/kernel"} | empty | more


ENDED = {"done": True, "known": True, "asks": True, "shortfall": ""}
ENDED |= {"parameters": 40, "dense_parameters": 100}


def run(layers=(), **more):
    """A run of which nothing is known but its layers, and that it has ended."""
    plain = {
        "layers": list(layers),
        "steps": [0, 1, 2, 3],
        "params": [100, 100, 40, 40],
        "metrics": {},
        "main": None,
        "directions": {},
        "costs": {},
        "cuts": [],
        "cut_steps": [2],
        "when": {2: "before"},
        "undone": [],
        "analysis": None,
        "dense": False,
        "outcome": ENDED,
    } | more
    last = {name: values[-1] for name, values in plain["metrics"].items()}
    final = {"step": plain["steps"][-1], "params": plain["params"][-1], "metrics": last}
    return {"final": final} | plain


def measured(values, **more):
    """The same, with an accuracy over the epochs and what its cut cost."""
    known = {"step": 2, "before": values[1], "after": values[2], "cost": values[1] - values[2]}
    return run(
        metrics={"val_accuracy": values},
        main="val_accuracy",
        directions={"val_accuracy": 1},
        costs={"val_accuracy": [known]},
        **more,
    )


def uncut(fraction=1.0, dense=False, **told):
    """A run in which nothing was cut, of a model of a share of its dense size."""
    size = int(100 * fraction)
    return run(cut_steps=[], params=[size] * 4, dense=dense, outcome=ENDED | told)


CUT = {"at": 2, "when": "before", "kernels": [{"name": "d1", "energy": 0.4}]}
UNDONE = {"at": 2, "when": "before", "parameters": None}
BAD = layer(rank=10, full=64, energy=0.17, output_error=0.18, break_even=40)


def analysed(value):
    table = {"name": "d1", "ranks": [8, 30], "values": [value, 0.95]}
    return {"kernels": [table], "baseline": 0.96, "direction": 1, "metric": "accuracy"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            run([BAD]),
            "Layer d1, at rank 10 of 64, has lost 18 % of the variance of its outputs. "
            "Give it more: LayerRule('d1', min_rank=15).",
        ),
        (
            run([BAD], analysis=analysed(0.90)),
            "Layer d1, at rank 10 of 64, has lost 18 % of the variance of its outputs. "
            "With it alone at rank 8, accuracy was 6 points worse. "
            "Give it more: LayerRule('d1', min_rank=15).",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91], layers=[BAD], cuts=[CUT]),
            "With its deepest cut, before epoch 2, val_accuracy became 5 points worse. "
            "Give it more:",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91], layers=[BAD], cuts=[CUT | {"when": "in"}]),
            "With its deepest cut, in epoch 2, val_accuracy became 5 points worse. ",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91], when={2: "before or in"}, cuts=[CUT, CUT]),
            "With the cuts before or in epoch 2 val_accuracy went from 95 % to 90 %, ",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91], layers=[BAD], cuts=[CUT], undone=[UNDONE]),
            "of its outputs. Give it more:",
        ),
        (run([layer("lstm", path="lstm/recurrent_kernel", rank=1, energy=0.5)]), "'lstm', min_r"),
        (run([layer("a[0]", rank=4, energy=0.5)]), "LayerRule('a[[]0]', min_rank=6)."),
        (
            run([BAD | {"break_even": 10}]),
            "Layer d1, at rank 10 of 64, has lost 18 % of the variance of its outputs.",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91]),
            "With the cut before epoch 2 val_accuracy went from 95 % to 90 %, 5 points worse. "
            "Train for longer, or leave it more.",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.95]),
            "With the cut before epoch 2 val_accuracy went from 95 % to 90 %, 5 points worse. "
            "It was made up for by epoch 3.",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.95], undone=[UNDONE]),
            "The guard has undone 1 cut. Train for longer, or give the guard "
            "a larger max_drop or a longer patience.",
        ),
        (
            run(
                undone=[
                    {"at": 3, "when": "before", "parameters": 20_000, "parameters_before": 30_000}
                ]
                * 2
            ),
            "The guard has undone 2 cuts. The last, before epoch 3, went to 20,000 parameters; "
            "30,000 is what it has let pass. Train for longer, or give the guard "
            "a larger max_drop or a longer patience.",
        ),
        (
            run([layer(rank=9, full=64, energy=0.995, output_error=0.0, parameters=20)]),
            "Layer d1 still keeps 99.5 % of its energy and holds 50 % of the parameters: "
            "it can give more.",
        ),
        (
            run(undone=[UNDONE], outcome=run()["outcome"] | {"guard": "Guard(max_drop=None)"}),
            "give the guard a limit that is easier to meet or a longer patience.",
        ),
        (
            run(undone=[UNDONE], outcome=run()["outcome"] | {"shortfall": "Give it more tries."}),
            "The guard has undone 1 cut.",
        ),
        (uncut(dense=True, asks=False), "Nothing was cut in this run: it is a dense one"),
        (uncut(asks=False, done=False), "once it has ended, it is a dense one."),
        (uncut(), "Nothing was cut in this run, though that was asked for."),
        (uncut(done=False), "the training goes on, or was broken off before its first cut."),
        (uncut(known=False, dense=True), "as far as its logs tell."),
        (uncut(0.4), "Nothing was cut in this run: its model was smaller than the dense one"),
        (
            measured([0.9, 0.95, 0.9, 0.91]),
            "val_accuracy is 91 % at the end, 4 points worse than in the best epoch at full size, "
            "with 60 % fewer parameters.",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91], params=[39] * 4),
            "val_accuracy is 91 % at the end, with 61 % fewer parameters.",
        ),
        (
            measured([0.9, 0.95, 0.9, 0.91], outcome=ENDED | {"done": False}),
            "val_accuracy is 91 % in epoch 3, 4 points worse",
        ),
    ],
)
def test_what_is_known_is_said_with_its_number(given, said):
    assert any(said in each for each in advice(given)), advice(given)


@pytest.mark.parametrize(
    "given",
    [
        run(),
        run([layer()]),
        run([layer(rank=4, full=8)]),
        run([layer(rank=9, full=64, energy=0.4, output_error=0.0001)]),  # nothing is lost by it
        run([BAD], analysis=analysed(0.97)),  # alone it costs nothing
        run(metrics={"val_loss": [None] * 4}, main="val_loss", directions={"val_loss": -1}),
        measured([0.9, 0.9, 0.9, 0.9], params=[100] * 4),  # every cut was undone
    ],
)
def test_nothing_is_said_of_what_is_not_known_or_no_fault(given):
    assert advice(given) == []


def test_a_training_that_diverged_is_no_ground_for_any_other_advice():
    lost = ENDED | {"diverged": "960 of 960 numbers of d1/kernel were NaN or infinite"}
    (told,) = advice(run([layer(rank=6, full=48, output_error=0.43)], outcome=lost))
    assert told.startswith("The training diverged: ")
    assert "LayerRule" not in told
