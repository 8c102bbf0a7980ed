"""`reducible-train inspect`: what a compact file holds, read from its header alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reducible_train.cli._look import show_table
from reducible_train.container import Header, TensorRecord, read_header
from reducible_train.errors import FormatError
from reducible_train.report.places import when
from reducible_train.report.records import Report, answer_lines


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Compact file.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show ranks, sizes and energies of a compact file, without loading TensorFlow."""
    header = read_header(file)
    size = file.stat().st_size
    if as_json:
        typer.echo(json.dumps(_plain(file, size, header), indent=2))
        return
    try:
        _show(file, size, header, tensors)
    except (ArithmeticError, ValueError) as error:  # sizes no computer has
        raise FormatError(
            f"{file}: its report must hold sizes and ranks. Received: {error}."
            " The file was altered; get it again."
        ) from error


def _show(file: Path, size: int, header: Header, tensors: bool) -> None:
    console = Console()
    report = _mapping(header.content.get("report"))
    console.print(Text(f"{file}: {size:,} bytes, {len(header.tensors)} tensors"), soft_wrap=True)
    versions = _mapping(header.content.get("versions"))
    made = [_words(f"{package} {version}") for package, version in versions.items()]
    if made:
        console.print(Text("written with " + ", ".join(made)), soft_wrap=True)
    kernels = [kernel for kernel in _list(report.get("kernels")) if isinstance(kernel, Mapping)]
    if kernels:
        console.print()
        show_table(console, _kernel_table(kernels, header.tensors))
        for kernel in kernels:
            why = kernel.get("reason") or kernel.get("remark")
            if why:
                remark = f"{kernel.get('path')} stays dense: {why}"
                console.print(Text(_words(remark)), soft_wrap=True)
    if tensors:
        console.print()
        show_table(console, _tensor_table(header.tensors))
    console.print()
    for line in _summary(report, header, size):
        console.print(Text(line), soft_wrap=True)
    for note in _list(report.get("notes")):
        console.print(Text(_words(note)), soft_wrap=True)


def _kernel_table(kernels: list[Mapping[str, Any]], tensors: tuple[TensorRecord, ...]) -> Table:
    told = any(isinstance(kernel.get("output_error"), float) for kernel in kernels)
    errors = ("output error",) if told else ()
    table = _table("kernel", "shape", "rank", "energy", *errors, "parameters", "bytes")
    sizes = _bytes_of([_words(kernel.get("path")) for kernel in kernels], tensors)
    for kernel in kernels:
        path, rank = _words(kernel.get("path")), kernel.get("rank")
        energy, parameters = kernel.get("energy"), kernel.get("parameters")
        shape = [size for size in _list(kernel.get("shape")) if isinstance(size, int)]
        error = kernel.get("output_error")
        cells = [f"{error:.3f}" if isinstance(error, float) else ""] if told else []
        table.add_row(
            Text(path),
            " x ".join(map(str, shape)),
            f"{rank}/{min(shape, default=0)}" if isinstance(rank, int) else "dense",
            f"{energy:.3f}" if isinstance(energy, float) else "",
            *cells,
            f"{parameters:,}" if isinstance(parameters, int) else "",
            f"{sizes[path]:,}" if sizes[path] else "",
        )
    return table


def _tensor_table(tensors: tuple[TensorRecord, ...]) -> Table:
    table = _table("tensor", "shape", "dtype", "codec", "bytes", "of raw")
    for record in tensors:
        share = f"{record.stored_bytes / record.nbytes:.1%}" if record.nbytes else ""
        shape = " x ".join(map(str, record.shape)) or "one number"
        cells = (shape, record.dtype, record.codec, f"{record.stored_bytes:,}", share)
        table.add_row(Text(record.name), *cells)
    return table


def _table(*names: str) -> Table:
    table = Table(*names, header_style="bold", box=None, pad_edge=False)
    table.columns[0].overflow = "fold"  # a path is of use only whole
    for column in table.columns[1:]:
        column.no_wrap = True
        column.justify = "left" if column.header in ("dtype", "codec") else "right"
    return table


def _summary(report: Mapping[str, Any], header: Header, size: int) -> list[str]:
    raw = sum(record.nbytes for record in header.tensors)
    share = f", {size / raw:.1%} of the {raw:,} bytes of its numbers" if raw else ""
    lines = [f"file: {size:,} bytes{share}"]
    dense, now = report.get("dense_parameters"), report.get("parameters")
    if isinstance(dense, int) and isinstance(now, int) and dense > 0:
        lines.insert(0, f"parameters: {dense:,} dense, {now:,} now ({1 - now / dense:.1%} fewer)")
    flops, dense_flops = report.get("flops"), report.get("dense_flops")
    if isinstance(flops, int) and isinstance(dense_flops, int) and dense_flops > 0:
        less = 1 - flops / dense_flops
        lines.append(f"FLOPs of one sample: {abs(less):.1%} {'fewer' if less >= 0 else 'more'}")
    cuts = _list(report.get("cuts"))
    if places := list(_places(map(_mapping, cuts))):
        lines.append(f"cuts: {len(cuts)}, {', '.join(places)} (counted from 0)")
    return [*lines, *_answers(report)]


def _places(cuts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """When cuts were made: `before epochs 1, 2`, then `in epoch 3`."""
    epochs: dict[str, set[int]] = {}
    for cut in cuts:
        epoch, step = cut.get("epoch"), cut.get("epoch_step")
        if isinstance(epoch, int):
            epochs.setdefault(when(step if isinstance(step, int) else None), set()).add(epoch)
    for word, found in sorted(epochs.items()):
        yield f"{word} epoch{'s' * (len(found) > 1)} {', '.join(map(str, sorted(found)))}"


def _answers(report: Mapping[str, Any]) -> list[str]:
    """What became of the answers; nothing of a report that is not as it was written."""
    try:
        known = Report.from_dict(report)
    except FormatError:
        return []
    return [_words(line) for line in answer_lines(known.cuts, known.answers)]


def _plain(file: Path, size: int, header: Header) -> dict[str, Any]:
    records = [
        {"name": t.name, "dtype": t.dtype, "codec": t.codec, "shape": list(t.shape)}
        | {"bytes": t.stored_bytes, "raw_bytes": t.nbytes}
        for t in header.tensors
    ]
    return {
        "file": str(file),
        "bytes": size,
        "versions": header.content.get("versions"),
        "report": header.content.get("report"),
        "tensors": records,
    }


def _bytes_of(kernels: list[str], tensors: tuple[TensorRecord, ...]) -> dict[str, int]:
    """Path -> what a dense kernel takes, or its factors (`kernel_u`, `kernel_v`).

    A file may hold more than the model of its report, as a part: all paths lie in that then, which
    is the one place where most of them are.
    """
    stored = {tensor.name: tensor.stored_bytes for tensor in tensors}
    ends = {path: [f"{path}{end}" for end in ("", "_u", "_v")] for path in kernels}
    wanted = {name for names in ends.values() for name in names}
    places = Counter(
        name.removesuffix(end) for name in stored for end in _ends_of(name) if end in wanted
    )
    place = max(places, key=lambda each: (places[each], -len(each)), default="")
    return {path: sum(stored.get(place + name, 0) for name in ends[path]) for path in kernels}


def _ends_of(name: str) -> Iterator[str]:
    """A path, and all that it ends with: `a/b/c`, `b/c`, `c`."""
    while name:
        yield name
        name = name.partition("/")[2]


def _words(value: Any) -> str:
    """Text from a file that anybody may have written, safe for a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
