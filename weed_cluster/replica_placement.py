"""How many copies a volume should have, and in which racks and data centers; disk types in comparable form."""

from __future__ import annotations

from dataclasses import dataclass

from weed_core.errors import BadTask


def plain_type(disk_type: str) -> str:
    """A disk type in the form that can be compared: lower case, and "hdd" for the unnamed one."""
    return disk_type.lower() or "hdd"


@dataclass(frozen=True, slots=True)
class ReplicaPlacement:
    """Where the further copies of a volume go; SeaweedFS writes it as three digits."""

    other_data_centers: int = 0
    other_racks: int = 0
    same_rack: int = 0

    @classmethod
    def parse(cls, text: str) -> ReplicaPlacement:
        """Read "010"; leading zeros may be absent. Raises BadTask for anything else."""
        digits = text.strip().rjust(3, "0")
        if len(digits) != 3 or not (digits.isascii() and digits.isdigit()):
            raise BadTask(f"{text!r} is no replica placement; expected three digits like 001")
        return cls(*(int(digit) for digit in digits))

    @classmethod
    def from_byte(cls, number: int) -> ReplicaPlacement:
        """Read the byte that volumes carry: the three digits as a decimal number."""
        return cls(number // 100, number // 10 % 10, number % 10)

    @property
    def copies(self) -> int:
        """How many copies there should be in all."""
        return 1 + self.other_data_centers + self.other_racks + self.same_rack

    def __str__(self) -> str:
        return f"{self.other_data_centers}{self.other_racks}{self.same_rack}"
