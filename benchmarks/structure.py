"""What the tree of the package shows: rooms, floors, arrows, circles, sizes of bodies and classes.

`python benchmarks/structure.py` reads the source of this checkout; give it the root of another one
(an older commit, in a worktree) to compare. A room is a module or folder at the top of the package;
an arrow leads from a room to one that it imports; a floor is the longest way down from a room.
The last line is the figures as JSON.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def main(root: Path) -> None:
    package = root / "reducible_train"
    trees = {f: ast.parse(f.read_text(encoding="utf-8")) for f in sorted(package.rglob("*.py"))}
    arrows = room_arrows(package, trees)
    bodies = sorted(size for tree in trees.values() for size in body_sizes(tree))
    figures = {
        "command": "python benchmarks/structure.py",
        "entries": sum(e.name != "__pycache__" for e in package.iterdir()),
        "rooms": len({room_of(package, f) for f in trees} - {"__init__", "__main__"}),
        "floors": 1 + max(floor_of(room, arrows) for room in arrows),
        "arrows": sum(len(below) for below in arrows.values()),
        "circles": sorted(room for room in arrows if room in reached_from(room, arrows)),
        "modules": len(trees),
        "lines": sum(len(f.read_text(encoding="utf-8").splitlines()) for f in trees),
        "body_p90": bodies[int(0.90 * len(bodies))],
        "body_p99": bodies[int(0.99 * len(bodies))],
        "body_max": bodies[-1],
        "classes_over_15_methods": dict(large_classes(trees)),
        "scheduler_arguments": scheduler_arguments(trees),
    }
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(json.dumps(figures))


def room_of(package: Path, source: Path) -> str:
    return source.relative_to(package).parts[0].removesuffix(".py")


def room_arrows(package: Path, trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    """Room -> the rooms it imports."""
    arrows: dict[str, set[str]] = {}
    for source, tree in trees.items():
        room = room_of(package, source)
        if room in ("__init__", "__main__"):
            continue
        found = {name.split(".")[1] for name in own_imports(tree)}
        arrows.setdefault(room, set()).update(found - {room})
    return arrows


def own_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reducible_train"):
            if node.module == "reducible_train":
                yield from (f"reducible_train.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def reached_from(room: str, arrows: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(arrows.get(room, ()))
    while todo:
        other = todo.pop()
        if other not in seen:
            seen.add(other)
            todo += arrows.get(other, ())
    return seen


def floor_of(room: str, arrows: dict[str, set[str]], above: tuple[str, ...] = ()) -> int:
    below = [o for o in arrows.get(room, ()) if o not in above]
    return max((1 + floor_of(o, arrows, (*above, room)) for o in below), default=0)


def body_sizes(tree: ast.Module) -> Iterator[int]:
    """Lines of each function's body, its docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            body = node.body[1:] if has_docstring else node.body
            yield body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]


def large_classes(trees: dict[Path, ast.Module]) -> Iterator[tuple[str, int]]:
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(n, ast.FunctionDef) for n in node.body)
                if methods > 15:
                    yield node.name, methods


def scheduler_arguments(trees: dict[Path, ast.Module]) -> int:
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == "RankScheduler":
                init = next(n for n in node.body if getattr(n, "name", "") == "__init__")
                given = init.args  # type: ignore[attr-defined]
                return len(given.kwonlyargs) + len(given.args) - 1 + (given.kwarg is not None)
    return 0


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE)
