"""`python -m weed_sandbox master|volume|admin -flag=value ...`: run one server until SIGTERM."""

from __future__ import annotations

import sys
from importlib import import_module

MODULES = {"master": "master", "volume": "volume_server", "admin": "admin"}


def main(argv: list[str]) -> int:
    """Run the server that the first word names."""
    if not argv or argv[0] not in MODULES:
        print(f"usage: python -m weed_sandbox {'|'.join(MODULES)} -flag=value ...", file=sys.stderr)
        return 2
    module = import_module(f"weed_sandbox.{MODULES[argv[0]]}")
    return int(module.main(argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
