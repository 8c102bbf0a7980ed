"""The floors of the package, read from its source: imports point down only."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "reducible_train"

# From the ground up. A module may import from its own floor and from those below.
FLOORS = (
    {
        "errors",
        "arguments",
        "spectra",
        "matricization",
        "moments",
        "schedules",
        "plain_records",
        "report",
        "report_file",
        "container",
        "codecs",
        "tensorboard_format",
        "weighting",
        "monitors",
        "checkpoint_names",
    },
    {"truncation", "costs", "allocation", "stacks", "criteria", "aids"},
    {"_keras"},
    {"layers", "transport"},
    {"plans", "containers"},
    {"surgery"},
    {
        "sources",
        "calibration",
        "input_shapes",
        "collection",
        "targets",
        "rules",
        "survey",
        "judgement",
        "growth",
        "file_costs",
        "latency",
        "decisions",
        "feasibility",
        "compression",
        "factorization",
        "rollback",
        "guard",
        "search",
        "pacing",
        "adaptive",
        "watch",
        "shortfall",
        "support",
        "companions",
        "comparisons",
        "preflight",
        "callback",
    },
    {"allow_list", "model_config", "unfactorization", "weights_files", "layer_state"},
    {"way_back"},
    {
        "saving",
        "backup",
        "backup_state",
        "checkpoint",
        "early_stopping",
        "tensorboard",
        "tensorboard_events",
        "config",
        "cli",
        "datasets",
        "tuner",
    },
)
FLOOR_OF = {name: height for height, floor in enumerate(FLOORS) for name in floor}

PURE = FLOORS[0] | FLOORS[1]
HEAVY = {"keras", "tensorflow", "jax", "torch", "keras_tuner", "tensorboard", "yaml", "pydantic"}
LATE_IMPORTS = {"cli", "config", "tensorboard", "_keras", "saving", "tuner"}
OPTIONAL = {"sklearn", "matplotlib", "safetensors"}

SOURCES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree_of(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"), str(source))


def part_of(source: Path) -> str:
    """First name below the package: the module, or the subpackage it is in."""
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def each_source(*, only: Collection[str] = (), but: Collection[str] = ()) -> pytest.MarkDecorator:
    """Run the test for every source file of the package, or of some of its parts."""
    chosen = [s for s in SOURCES if (not only or part_of(s) in only) and part_of(s) not in but]
    ids = [str(source.relative_to(PACKAGE)) for source in chosen]
    return pytest.mark.parametrize("source", chosen, ids=ids)


def where(source: Path, node: ast.AST) -> str:
    return f"{source.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, str, bool]]:
    """Every import that runs: the statement, the dotted name, and whether in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child, alias.name, in_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            names = [f"{base}.{alias.name}" for alias in child.names]
            yield from ((child, name, in_function) for name in names)
        elif is_type_checking(child):
            for later in child.orelse:  # type: ignore[attr-defined]
                yield from imports(later, in_function)
        else:
            deeper = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, in_function or deeper)


def own_parts(name: str) -> str | None:
    """The part of this package that a dotted name lies in; `None` for anything else."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "reducible_train" and rest else None


def test_every_module_has_a_floor():
    parts = {part_of(source) for source in SOURCES} - {"__init__", "__main__"}
    assert parts <= FLOOR_OF.keys(), f"put these on a floor: {sorted(parts - FLOOR_OF.keys())}"


@each_source()
def test_imports_point_down(source: Path):
    part = part_of(source)
    for node, name, _ in imports(tree_of(source)):
        other = own_parts(name)
        if part in FLOOR_OF and other in FLOOR_OF:
            assert FLOOR_OF[other] <= FLOOR_OF[part], f"{where(source, node)} imports {name}"


def test_no_two_parts_import_each_other():
    needs: dict[str, set[str]] = {}
    for source in SOURCES:
        found = {own_parts(name) for _, name, _ in imports(tree_of(source))}
        needs.setdefault(part_of(source), set()).update(found & FLOOR_OF.keys())
    for part in needs:
        reached, todo = set(), needs[part] - {part}
        while todo:
            other = todo.pop()
            reached.add(other)
            todo |= needs.get(other, set()) - reached - {other}
        assert part not in reached, f"{part} imports itself through {sorted(reached)}"


@each_source(only=PURE)
def test_ground_and_core_are_pure(source: Path):
    for node, name, _ in imports(tree_of(source)):
        assert name.partition(".")[0] not in HEAVY, f"{where(source, node)} imports {name}"


@each_source(but=LATE_IMPORTS)
def test_imports_stand_at_the_top(source: Path):
    for node, name, in_function in imports(tree_of(source)):
        optional = name.partition(".")[0] in OPTIONAL
        assert not in_function or optional, f"{where(source, node)} imports {name} in a function"


@each_source()
def test_nobody_takes_the_insides_of_another_module(source: Path):
    for node, name, _ in imports(tree_of(source)):
        other, last = own_parts(name), name.rpartition(".")[2]
        if other == part_of(source):
            continue
        if other == "_keras":
            assert last == "_keras", f"{where(source, node)} imports {name}, not the whole door"
        elif other is not None:
            assert not last.startswith("_"), f"{where(source, node)} imports {name}"


def private_attributes(source: Path) -> Iterator[tuple[ast.AST, str, str]]:
    """Every `owner._name`, `getattr(owner, "_name")` included."""
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Attribute):
            owner, name = ast.unparse(node.value), node.attr
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"getattr", "setattr", "hasattr", "delattr"}
            and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
        ):
            owner, name = ast.unparse(node.args[0]), str(node.args[1].value)
        else:
            continue
        if name.startswith("_") and not name.startswith("__"):
            yield node, owner, name


@cache
def behind_the_door() -> frozenset[str]:
    """The private names that the modules of the door use."""
    door = [source for source in SOURCES if part_of(source) == "_keras"]
    return frozenset(name for source in door for *_, name in private_attributes(source))


@each_source(but={"_keras"})
def test_one_door_to_keras_private_side(source: Path):
    for node, name, _ in imports(tree_of(source)):
        assert not name.startswith("keras.src"), f"{where(source, node)} imports {name}"
    knows_keras = any(name.split(".")[0] == "keras" for _, name, _ in imports(tree_of(source)))
    private_to_keras = behind_the_door() if knows_keras else frozenset()
    defined_here = {
        getattr(node, "name", None) or getattr(node, "attr", None) or getattr(node, "id", None)
        for node in ast.walk(tree_of(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or isinstance(getattr(node, "ctx", None), ast.Store)
    }
    for node, owner, name in private_attributes(source):
        mine = owner in {"self", "cls", "super()"} or name in defined_here
        allowed = mine and name not in private_to_keras
        assert allowed, f"{where(source, node)} uses {owner}.{name}"


def modules_after(code: str) -> set[str]:
    """Names of the top packages a new interpreter has loaded after running `code`."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + report],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = """
import sys
from reducible_train.cli import main
sys.argv = ["reducible-train", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import reducible_train",
        "import reducible_train; dir(reducible_train); reducible_train.__version__",
        "from reducible_train import Ramp, Report, ReducibleError",
        "import reducible_train.tensorboard_format",
        HELP,
    ],
    ids=["import", "dir", "ground", "tensorboard_format", "help"],
)
def test_stays_light(code: str):
    heavy = {"keras", "tensorflow", "jax", "torch", "keras_tuner"}
    assert not modules_after(code) & heavy
