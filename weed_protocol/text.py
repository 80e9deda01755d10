"""Free text on its way to an admin: always encodable, never misread."""

from __future__ import annotations

import re
from typing import Any

from weed_core.text import escaped

LIMIT = 4000  # characters; an error may quote a server at length, an admin page need not

LONGEST_NAME = 4096
"""Characters of an id or a name that a job may come with; no server has longer ones."""

_ABSENCE = re.compile(r"not\s+found", re.IGNORECASE)


def valid(text: str) -> str:
    """Make a text fit for a protobuf string, which takes valid UTF-8 only.

    A completion whose error quotes an odd file name must still be encodable, or its job would never end.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Make a text for people to read visible, and no longer than LIMIT characters."""
    shown = escaped(text[: LIMIT + 1])
    return shown if len(shown) <= LIMIT else shown[: LIMIT - 3] + "..."


def retriable(text: str) -> str:
    """Rephrase "not found" as "missing".

    A 4.44 admin fails a classic task for ever where its error says "not found"; other failures it tries again.
    """
    return _ABSENCE.sub("missing", text)


def oversized(message: Any) -> str:
    """What is wrong with a protobuf message that holds a text longer than LONGEST_NAME; "" if none is.

    Names end up in logs, journals and other servers' requests, many times over.
    """
    for field, value in message.ListFields():
        for item in value if field.is_repeated else (value,):
            if field.type == field.TYPE_STRING and len(item) > LONGEST_NAME:
                return f"{field.name} has {len(item)} characters; at most {LONGEST_NAME} are taken"
            if field.type == field.TYPE_MESSAGE and hasattr(item, "ListFields") and (found := oversized(item)):
                return found
    return ""
