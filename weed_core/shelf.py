"""Where a process keeps small documents by name that others may know better: a memory and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Shelf(Protocol):
    """Documents by their names. Nothing fails where it cannot keep one: it forgets."""

    def get(self, name: str) -> bytes | None:
        """One document; None where there is none."""

    def all(self) -> Mapping[str, bytes]:
        """Every document."""

    def put(self, name: str, document: bytes) -> None:
        """Keep one, in place of an earlier one."""

    def remove(self, name: str) -> None:
        """Forget one, if it is there."""


class Memory(dict[str, bytes]):
    """A shelf that ends with the process."""

    def all(self) -> Mapping[str, bytes]:
        """Every document."""
        return dict(self)

    def put(self, name: str, document: bytes) -> None:
        """Keep one, in place of an earlier one."""
        self[name] = document

    def remove(self, name: str) -> None:
        """Forget one, if it is there."""
        self.pop(name, None)
