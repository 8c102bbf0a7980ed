"""Print the packages at one end of the bounds in pyproject.toml, a line each, for pip.

`python .ci/bounds.py lowest` pins every requirement to its lower bound, `newest` leaves pip the
newest that the upper bound allows. `make bounds` installs each end and runs the tests on it.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)>=(?P<low>[0-9.]+)(?:,<(?P<high>[0-9.]+))?")


def main(end: str, extras: list[str]) -> None:
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for requirement in wanted:
        found = REQUIREMENT.fullmatch(requirement)
        if found is None:
            sys.exit(f"pyproject.toml: {requirement!r} has no lower bound of the form name>=1.2")
        lowest = f"{found['name']}=={found['low']}"
        sys.stdout.write((lowest if end == "lowest" else requirement) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("lowest", "newest"):
        sys.exit("usage: bounds.py lowest|newest [EXTRA ...]")
    main(sys.argv[1], sys.argv[2:])
