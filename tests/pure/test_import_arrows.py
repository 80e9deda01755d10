"""The arrows between the agent's parts: who may import whom, and who may know of greenlets.

Every import counts: under TYPE_CHECKING and inside functions, too. A part that is in no floor here, fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = (
    {"weed_worker"},
    {"weed_agent", "weed_console"},
    {"weed_tasks"},
    {"weed_ec"},
    {"weed_safety", "weed_state"},
    {"weed_cluster", "weed_protocol"},
    {"weed_storage"},
    {"weed_core"},
    {"proto_gen"},
)
"""From the top down: each part may import what stands on a lower floor, and nothing of its own floor but itself."""

SANDBOX = "weed_sandbox"
"""Stands beside the house: it may import what is below the safety of volumes, and nothing that ships imports it."""

GREEN = {"weed_worker", "weed_console.commands"}
"""The modules that know of greenlets."""

LEVELS = {part: level for level, parts in enumerate(FLOORS) for part in parts}


def files() -> list[Path]:
    """List all modules of ours, the sandbox's too, generated code aside."""
    return sorted([*ROOT.glob("weed_*.py"), *ROOT.glob("weed_*/**/*.py")])


def name_of(path: Path) -> str:
    """Name a file's module, e.g. weed_tasks.vacuum.plan; a package by itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """Name the part that a module belongs to."""
    return module.partition(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports, wherever it does; names from packages as `package.name`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the arrow"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def arrows() -> dict[str, set[str]]:
    """Map each module of ours to the other modules of ours that it imports."""
    modules = {name_of(path): path for path in files()}

    def module_of(name: str) -> str:
        return name if name in modules else name.rpartition(".")[0]

    found = {name: {module_of(what) for what in imports(path)} - {name} for name, path in modules.items()}
    return {
        name: {to for to in targets if part_of(to).startswith(("weed_", "proto_gen"))}
        for name, targets in found.items()
    }


def shipped() -> list[str]:
    """Name the modules that the worker consists of."""
    return [name for name in arrows() if part_of(name) != SANDBOX]


def test_every_part_stands_on_a_floor() -> None:
    assert {part_of(name) for name in shipped()} == set(LEVELS) - {"proto_gen"}


@pytest.mark.parametrize("part", sorted(set(LEVELS) - {"proto_gen"}))
def test_a_part_imports_only_what_lies_below_it(part: str) -> None:
    guilty = {
        f"{name} -> {target}"
        for name in shipped()
        for target in arrows()[name]
        if part_of(name) == part != part_of(target) and LEVELS.get(part_of(target), -1) <= LEVELS[part]
    }

    assert guilty == set()


def test_no_job_type_imports_another() -> None:
    def job_type(module: str) -> str:
        parts = module.split(".")
        return parts[1] if parts[0] == "weed_tasks" and len(parts) > 1 and is_package(parts[1]) else ""

    def is_package(name: str) -> bool:
        return (ROOT / "weed_tasks" / name / "__init__.py").exists()

    guilty = {
        f"{name} -> {target}"
        for name, targets in arrows().items()
        for target in targets
        if job_type(target) and job_type(target) != job_type(name) and part_of(name) == "weed_tasks"
    }

    assert guilty == set()


def test_no_two_modules_import_each_other_not_even_through_others() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_the_sandbox_knows_nothing_of_what_changes_volumes_safely() -> None:
    """Else a fault of ours would be in both, and no test would see it."""
    known = {part_of(target) for name, targets in arrows().items() if part_of(name) == SANDBOX for target in targets}

    assert known <= {SANDBOX, "proto_gen", "weed_cluster", "weed_core", "weed_storage"}


def test_what_ships_never_imports_what_only_tests_need() -> None:
    others = {"pytest", "hypothesis", "tests", SANDBOX}
    guilty = [
        name_of(path)
        for path in files()
        if part_of(name_of(path)) != SANDBOX and others & {part_of(what) for what in imports(path)}
    ]

    assert guilty == []


def test_only_the_entry_modules_know_of_greenlets() -> None:
    green = ("gevent", "grpc.experimental", "greenlet")
    guilty = {
        name_of(path)
        for path in files()
        if part_of(name_of(path)) != SANDBOX and any(what.startswith(green) for what in imports(path))
    }

    assert guilty <= GREEN
