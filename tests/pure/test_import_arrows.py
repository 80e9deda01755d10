"""The arrows between the agent's parts: who may import whom, and who may know of greenlets."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"weed_core"}
"""What everything may import."""
ALLOWED = {
    "proto_gen": set[str](),
    "weed_cluster": {"proto_gen", "weed_storage"},
    "weed_core": {"proto_gen"},
    "weed_ec": {"proto_gen", "weed_cluster", "weed_safety", "weed_storage"},
    "weed_protocol": {"proto_gen"},
    "weed_safety": {"proto_gen", "weed_cluster", "weed_storage"},
    "weed_storage": {"proto_gen"},
    "weed_tasks": {"proto_gen", "weed_cluster", "weed_ec", "weed_safety", "weed_storage"},
}
"""The parts below the agent; the agent's own modules stand above them and may import them all."""
GREEN = {"weed_worker.py", "commands.py"}


def sources() -> list[Path]:
    """List the modules that ship, generated code aside."""
    found = [*ROOT.glob("weed_*.py"), *ROOT.glob("weed_*/**/*.py")]
    return sorted(path for path in found if "weed_sandbox" not in path.parts)


def part_of(path: Path) -> str:
    """Name the top-level module or package that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules that are imported when the program runs, at the top or inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide the arrow"
            yield node.module or ""
        elif not (isinstance(node, ast.stmt) and is_type_checking(node)):
            yield from imports(node)


def imported_by(path: Path) -> set[str]:
    return set(imports(ast.parse(path.read_text())))


def arrows() -> dict[str, set[str]]:
    """Map each part to the other parts of ours that it imports."""
    found: dict[str, set[str]] = {part_of(path): set() for path in sources()}
    for path in sources():
        targets = {name.partition(".")[0] for name in imported_by(path)}
        found[part_of(path)] |= {name for name in targets if name.startswith(("weed_", "proto_gen"))} - {part_of(path)}
    return found


@pytest.mark.parametrize("part", [name for name in sorted(ALLOWED) if name != "proto_gen"])
def test_a_part_imports_only_what_lies_below_it(part: str) -> None:
    assert arrows()[part] <= ALLOWED[part] | WORDS


def test_no_arrow_leads_back_to_where_it_came_from() -> None:
    TopologicalSorter(arrows()).prepare()


def test_what_ships_never_imports_what_only_tests_need() -> None:
    others = {"pytest", "hypothesis", "tests", "weed_sandbox"}
    guilty = [path for path in sources() if others & {name.partition(".")[0] for name in imported_by(path)}]

    assert guilty == []


def test_only_the_entry_modules_know_of_greenlets() -> None:
    green = ("gevent", "grpc.experimental", "greenlet")
    guilty = [path.name for path in sources() if any(name.startswith(green) for name in imported_by(path))]

    assert set(guilty) <= GREEN
