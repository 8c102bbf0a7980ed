"""The floors of the package, read from its source: a room imports from lower floors only."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "reducible_train"

# From the ground up; rooms of one floor do not know each other.
FLOORS = (
    {"errors"},
    {"linalg", "settings", "container", "report", "datasets"},
    {"_keras", "preflight"},
    {"layers", "tensorboard"},
    {"selection"},
    {"surgery"},
    {"analysis", "compressor", "saving"},
    {"training"},
    {"config", "tuner"},
    {"cli"},
)
FLOOR_OF = {room: height for height, floor in enumerate(FLOORS) for room in floor}

PURE = {"errors", "report", "linalg", "settings", "container"}
HEAVY = {"keras", "tensorflow", "jax", "torch", "keras_tuner", "tensorboard", "yaml", "pydantic"}
LATE_IMPORTS = {"cli", "config", "tensorboard", "_keras", "saving", "__init__"}
OPTIONAL = {"sklearn", "matplotlib", "safetensors"}

SOURCES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree_of(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"), str(source))


def room_of(source: Path) -> str:
    """First name below the package: the module, or the folder it is in."""
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def where(source: Path, node: ast.AST) -> str:
    return f"{source.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"


def imports(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, str, bool]]:
    """Every import that runs: the statement, the dotted name, and whether in a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((child, alias.name, in_function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            names = [f"{base}.{alias.name}" for alias in child.names]
            yield from ((child, name, in_function) for name in names)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for later in child.orelse:
                yield from imports(later, in_function)
        else:
            deeper = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, in_function or deeper)


def own_room(name: str) -> str | None:
    """The room of this package that a dotted name lies in; `None` for anything else."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "reducible_train" and rest else None


def test_every_room_imports_from_lower_floors_only():
    rooms = {room_of(source) for source in SOURCES} - {"__init__", "__main__"}
    assert rooms == FLOOR_OF.keys()
    wrong = [
        f"{where(source, node)} imports {name}"
        for source in SOURCES
        for node, name, _ in imports(tree_of(source))
        if (room := room_of(source)) in FLOOR_OF and (other := own_room(name)) in FLOOR_OF
        if other != room and FLOOR_OF[other] >= FLOOR_OF[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other():
    """But for `config/`, where a file builds callbacks from itself."""
    names = {dotted(source): source for source in SOURCES if room_of(source) != "config"}
    asked = {
        name: {
            found
            for _, each, _ in imports(tree_of(source))
            if (found := each if each in names else each.rpartition(".")[0]) in names
        }
        - {name}
        for name, source in names.items()
    }
    while ends := [name for name, others in asked.items() if not others & asked.keys()]:
        for name in ends:
            del asked[name]
    assert not asked, "in a circle, or above one: " + ", ".join(sorted(asked))


def dotted(source: Path) -> str:
    """The name by which a module is imported."""
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_pure_rooms_know_neither_keras_nor_yaml():
    wrong = [
        f"{where(source, node)} imports {name}"
        for source in SOURCES
        if room_of(source) in PURE
        for node, name, _ in imports(tree_of(source))
        if name.partition(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_stand_at_the_top():
    wrong = [
        f"{where(source, node)} imports {name} in a function"
        for source in SOURCES
        if room_of(source) not in LATE_IMPORTS
        for node, name, in_function in imports(tree_of(source))
        if in_function and name.partition(".")[0] not in OPTIONAL
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_takes_the_insides_of_another_room():
    wrong = []
    for source in SOURCES:
        for node, name, _ in imports(tree_of(source)):
            other, last = own_room(name), name.rpartition(".")[2]
            inside = last != "_keras" if other == "_keras" else last.startswith("_")
            if other is not None and other != room_of(source) and inside:
                wrong.append(f"{where(source, node)} imports {name}")
    assert not wrong, "\n".join(wrong)


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
        "import reducible_train.tensorboard.tags",
        "import reducible_train.training.unguarded, reducible_train.training.clock",
        HELP,
    ],
    ids=["import", "dir", "ground", "tensorboard tags", "guard and clock", "help"],
)
def test_stays_light(code: str):
    heavy = {"keras", "tensorflow", "jax", "torch", "keras_tuner"}
    assert not modules_after(code) & heavy


LATE = """
import sys
class Absent:  # a Keras that cannot be imported
    @staticmethod
    def find_spec(name, *_):
        if name == "keras":
            raise ImportError(name=name)
sys.meta_path.insert(0, Absent)
import reducible_train
try:
    reducible_train.layers.KernelKind
except ImportError as error:
    assert error.name == "keras", error
else:
    sys.exit("layers do without Keras")
"""


def test_layers_are_imported_on_first_use():
    modules_after(LATE)
