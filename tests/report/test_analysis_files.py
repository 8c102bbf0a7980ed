"""Files of analyses that are JSON, and of the right types, but contradict themselves."""

from __future__ import annotations

import json

import pytest

from reducible_train.errors import FormatError
from reducible_train.report.analysis import FORMAT, Analysis, KernelAnalysis


def kernel_of(name: str) -> KernelAnalysis:
    return KernelAnalysis(
        *(f"{name}/kernel", "Dense", (4, 3), 0.5, None, 0.5, 1, 1.8, 0.1, 3),
        spectrum=(3.0, 2.0, 1.0),
        ranks=(1, 2),
        values=(0.9, float("nan")),
        errors=(0.1, 0.0),
    )


def analysis() -> Analysis:
    kernels = (kernel_of("one"), kernel_of("two"))
    more = {"samples": 8, "given": 9, "better": "less", "batches": ((4, 0.2), (4, 0.3))}
    paths = ("one/kernel", "two/kernel", "three/kernel")
    return Analysis(FORMAT, "net", "", "", "loss", (0.5, 1.0), 0.25, paths, kernels, **more)


def test_what_was_written_is_read():
    again = Analysis.from_json(analysis().to_json())
    assert again.to_json() == analysis().to_json()
    assert str(again) == str(analysis())


WHOLE = [
    ("ratios", ([], [1.0, 0.5], [0.5, 0.5], [0.5, 1.5], [0.0, 0.5], [None, 1.0])),
    ("baseline", (None, 1e999, 10**400)),
    ("paths", ([], ["one/kernel"] * 3, ["one/kernel"], ["two/kernel", "one/kernel"])),
    ("better", ("up",)),
    ("samples", (-1,)),
    ("given", (-1,)),
    ("batches", ([[0, 0.2]], [[-4, 0.2], [12, 0.3]])),
]
OF_KERNEL = [
    ("path", ("elsewhere/kernel", "two/kernel")),
    ("shape", ([0, 3], [-4, 3], [4, 2])),
    ("spectrum", ([], [3.0, -2.0, 1.0], [3.0, None, 1.0], [1.0, 2.0, 3.0], [1.0] * 4, [1e999])),
    ("ranks", ([1], [1, 2, 3], [], [-5, 2], [0, 2], [1, 4])),
    ("values", ([0.9], [0.9] * 3, [])),
    ("errors", ([0.1], [0.1] * 3, [-0.1, 0.1])),
    *((name, (-0.5,)) for name in ("parameters", "flops", "bytes", "effective_rank")),
    *((name, (-1,)) for name in ("break_even_rank", "noise_rank", "noise_edge")),
]


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [(None, name, value) for name, values in WHOLE for value in values]
    + [(1, name, value) for name, values in OF_KERNEL for value in values if value != "two/kernel"]
    + [(0, "path", "two/kernel")],
)
def test_what_contradicts_itself_is_named_with_its_place(place, name, value):
    plain = json.loads(analysis().to_json())
    (plain if place is None else plain["kernels"][place])[name] = value
    where = rf"{name}(\[\d\])*" if place is None else rf"kernels\[{place}\]\.\w+"
    with pytest.raises(FormatError, match=rf"a\.json\.({where}|kernels) must be .* Received: "):
        Analysis.from_json(json.dumps(plain), "a.json")
