"""Several budgets at once, as a file asks for them."""

from __future__ import annotations

import pytest

from reducible_train import Constant, Ramp
from reducible_train.config import config_schema, parse_config
from reducible_train.errors import ConfigError

RAMP = {"schedule": "ramp", "initial": 1.0, "final": 0.5, "start_epoch": 1, "end_epoch": 3}
BOTH = {"parameters": 0.25, "flops": RAMP}


def asked(compression, **training):
    return parse_config({"compression": compression, "training": {"epochs": 6, **training}})


def test_each_has_a_schedule_of_its_own():
    schedules = asked({"budget": BOTH}).schedules()
    assert schedules == {"budget.parameters": Constant(0.25), "budget.flops": Ramp(1.0, 0.5, 1, 3)}


def test_the_schema_knows_every_measure():
    section = config_schema()["$defs"]["MeasuresSection"]
    assert set(section["properties"]) == {"bytes", "file", "flops", "latency", "parameters"}
    assert section["additionalProperties"] is False
    assert section["description"]


@pytest.mark.parametrize(
    ("compression", "path", "message"),
    [
        ({"budget": {"parameters": 25}}, "budget.parameters", "For 25 % write 0.25."),
        ({"budget": {"flops": True}}, "budget.flops", "Received: true"),
        ({"budget": {"flops": None}}, "budget.flops", "must be a number"),
        ({"budget": {"flops": None}}, "budget.flops", "Received: nothing."),
        ({"budget": {"flop": 0.5}}, "budget.flop", "Did you mean 'flops'?"),
        ({"budget": {}}, "budget", "must name a measure at least"),
        ({"budget": {}}, "budget", "Write bytes, file, flops, latency or parameters below it"),
        ({"budget": {"flops": RAMP | {"final": 50}}}, "budget.flops.final", "write 0.5"),
        ({"budget": {"flops": RAMP | {"shpe": 1}}}, "budget.flops.shpe", "Did you mean 'shape'?"),
        (
            {"budget": {"flops": RAMP | {"end_epoch": 9}}},
            "budget.flops.end_epoch",
            "budget.flops must",
        ),
        ({"budget": BOTH, "measure": "flops"}, "measure", "said by the keys of budget"),
        ({"budget": BOTH, "measure": {"name": "latency"}}, "measure", "one of the keys of budget"),
        ({"budget": 0.5, "measure": [{"name": "flops"}]}, "measure", "must be one measure"),
        (
            {"budget": {"latency": 0.5}, "measure": [{"name": "latency", "rounds": 0}]},
            "measure[0].rounds",
            "at least 1",
        ),
        (
            {"budget": {"latency": 0.5}, "measure": [{"name": "latency", "round": 2}]},
            "measure[0].round",
            "Did you mean 'rounds'?",
        ),
        (
            {"budget": {"latency": 0.5}, "measure": [None]},
            "measure[0]",
            "Received: nothing. Write for example {name: latency",
        ),
        ({"budget": {"flops": 0.5}, "rank": 3}, "", "Received: budget and rank"),
        ({"energy": {"flops": 0.5}}, "energy", "without the key 'schedule'"),
    ],
)
def test_a_mistake_is_told_once_at_its_place(compression, path, message):
    with pytest.raises(ConfigError) as raised:
        asked(compression)
    (problem,) = raised.value.problems
    assert problem.path == f"$.compression.{path}".rstrip(".")
    assert message in problem.message
