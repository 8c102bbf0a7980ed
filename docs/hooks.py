"""What of the site is made from the package itself, for mkdocs.

The home page is the README; keys of the configuration come from the schema, the command line from
its own help, programs from `examples/` with what they printed when they last were run
(`docs/outputs/`). Links of the pages lead to files of the repository, so that they also work there:
those to files that are no page of the site are turned to the page that shows them.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.testing import CliRunner

from reducible_train.cli import app

TOP = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)#\s]+)")

# Files of the repository that are pages of the site, by where they lie.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
FOLDERS = {"examples": "examples.md", "configs": "configs.md", "benchmarks": "benchmarks.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the pictures that they show."""
    made = {page: (TOP / place).read_text(encoding="utf-8") for place, page in PAGES.items()}
    made["examples.md"] = "\n".join(programs())
    made["configs.md"] = "\n".join(configurations())
    made["reference/configuration.md"] = "\n".join(configuration())
    made["reference/command_line.md"] = "\n".join(command_line())
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    for picture in (TOP / "benchmarks" / "results").glob("*.png"):
        place = f"pictures/{picture.name}"
        files.append(File.generated(config, place, content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the repository to pages of the site."""
    here = page.file.src_uri
    homes = {made: place for place, made in PAGES.items()}
    folder = posixpath.dirname(homes.get(here, f"docs/{here}"))
    return LINK.sub(lambda link: link[1] + _on_site(link[2], folder, here), markdown)


def _on_site(target: str, folder: str, here: str) -> str:
    """Where a link of a file in `folder` of the repository leads to, seen from the page `here`."""
    if "://" in target or target.startswith("mailto:"):
        return target
    place = posixpath.normpath(posixpath.join(folder, target))
    found = PAGES.get(place) or _shown_by(place)
    return posixpath.relpath(found, posixpath.dirname(here) or ".")


def _shown_by(place: str) -> str:
    """The page or picture of the site that shows a file or folder of the repository."""
    top, _, rest = place.partition("/")
    if top == "docs":
        return rest
    if place.endswith(".png"):
        return f"pictures/{posixpath.basename(place)}"
    return FOLDERS.get(top, place)


def programs() -> Iterator[str]:
    """Every example, with what it printed."""
    yield "# Examples\n\nEach is run by the tests. Below it is what it printed.\n"
    for path in sorted((TOP / "examples").glob("*.ipynb")):
        yield f"## {path.name}\n\nA notebook, `examples/{path.name}`.\n"
        yield from _cells(json.loads(path.read_text(encoding="utf-8")))
    for path in sorted((TOP / "examples").glob("*.py")):
        yield f"## {path.stem.replace('_', ' ').capitalize()}\n\n`examples/{path.name}`\n"
        yield f"```python\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"
        printed = TOP / "docs" / "outputs" / f"{path.stem}.txt"
        if printed.exists():
            yield f"```text\n{printed.read_text(encoding='utf-8').rstrip()}\n```\n"


def _cells(book: Mapping[str, Any]) -> Iterator[str]:
    """Text, programs and outputs of a notebook, its pictures within the page."""
    for cell in book["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield re.sub(r"^#", "###", text, flags=re.MULTILINE) + "\n"
            continue
        yield f"```python\n{text}\n```\n"
        for output in cell["outputs"]:
            data = output.get("data", {})
            plain = "".join(output.get("text") or data.get("text/plain", ""))
            if "image/png" in data:
                picture = data["image/png"].strip()
                yield f'<img alt="drawn by the cell above" src="data:image/png;base64,{picture}">\n'
            elif "text/html" in data:
                yield "".join(data["text/html"]) + "\n"
            else:
                yield f"```text\n{plain.rstrip()}\n```\n"


def configurations() -> Iterator[str]:
    """Every file of `configs/`."""
    yield "# Configurations\n\nTo begin from: `reducible-train preview FILE` shows each.\n"
    for path in sorted((TOP / "configs").glob("*.yaml")):
        yield f"## {path.name}\n\n```yaml\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"


def command_line() -> Iterator[str]:
    """The help of every command, as it stands in a terminal of 100 columns."""
    yield "# Command line\n"
    for name in ("", *sorted(each.name for each in app.registered_commands if each.name)):
        words = [name, "--help"] if name else ["--help"]
        said = CliRunner().invoke(app, words, prog_name="reducible-train", env={"COLUMNS": "100"})
        text = re.sub(r"\x1b\[[0-9;]*m", "", said.output)
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        yield f"## reducible-train {name}\n".replace(" \n", "\n")
        yield f"```text\n{lines}\n```\n"


def configuration() -> Iterator[str]:
    """A table for each section of the schema, in the order in which they are met."""
    path = TOP / "reducible_train" / "config" / "schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    yield "# Configuration keys\n"
    yield "Written from the settings. `reducible-train schema` gives the same to editors.\n"
    yield "## The file\n"
    yield from _table(schema)
    for name in _met(schema):
        section = schema["$defs"][name]
        yield f"\n## {_title(name)}\n\n{section.get('description', '')}\n"
        if "properties" in section:
            yield from _table(section)
        else:
            yield f"Takes {_takes(section)}.\n"


def _met(schema: Mapping[str, Any]) -> list[str]:
    """Names of the definitions, each after the one that first names it."""
    found: list[str] = []
    waiting: list[Any] = [schema["properties"]]
    while waiting:
        text = json.dumps(waiting.pop(0))
        for name in re.findall(r'"\$ref": "#/\$defs/(\w+)"', text):
            if name not in found:
                found.append(name)
                waiting.append(schema["$defs"][name])
    return found


def _title(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Section")).capitalize()


def _table(section: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | takes | left out | what it says |\n|---|---|---|---|"
    for key, told in section.get("properties", {}).items():
        if told.get("default") is not None:
            left_out = f"`{json.dumps(told['default'])}`"
        else:
            left_out = "" if "default" in told else "must be given"
        if isinstance(told.get("default"), dict):
            left_out = "its own defaults"
        about = " ".join(told.get("description", "").split()).replace("|", "\\|")
        yield f"| `{key}` | {_takes(told)} | {left_out} | {about} |"


def _takes(told: Mapping[str, Any]) -> str:
    """What a value may be, in words."""
    if "$ref" in told:
        name = told["$ref"].rpartition("/")[2]
        title = _title(name)
        return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
    for way in ("anyOf", "oneOf"):
        if way in told:
            parts = [_takes(each) for each in told[way] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(part for part in parts if part))
    if "enum" in told or "const" in told:
        values = told.get("enum", [told.get("const")])
        return ", ".join(f"`{value}`" for value in values)
    if isinstance(told.get("additionalProperties"), dict):
        return f"mapping of names, each to {_takes(told['additionalProperties'])}"
    if told.get("type") == "array":
        return f"list of {_takes(told.get('items', {})) or 'values'}"
    return _number(told) if told.get("type") in ("number", "integer") else str(told.get("type", ""))


def _number(told: Mapping[str, Any]) -> str:
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    said = [f"{sign} {told[key]}" for key, sign in bounds.items() if key in told]
    return " ".join([told["type"], ", ".join(said)]).strip()
