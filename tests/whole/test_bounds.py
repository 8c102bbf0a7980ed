"""Every dependency has a lower and an upper bound, between which the pinned version lies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BOUNDED = [Requirement(each) for each in PROJECT["dependencies"]]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PINNED = {
    plain(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )
}


@pytest.mark.parametrize("requirement", BOUNDED, ids=lambda each: each.name)
def test_a_dependency_has_both_bounds_around_the_pinned_version(requirement):
    assert {each.operator for each in requirement.specifier} == {">=", "<"}
    assert requirement.specifier.contains(PINNED[plain(requirement.name)])


def test_a_dependency_is_imported():
    source = "\n".join(each.read_text("utf-8") for each in (ROOT / "reducible_train").rglob("*.py"))
    modules = {"PyYAML": "yaml"}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        module = modules.get(requirement.name, requirement.name).replace("-", "_")
        assert re.search(rf"^\s*(import|from) {module}\b", source, re.MULTILINE), module
