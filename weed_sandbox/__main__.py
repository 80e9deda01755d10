"""`python -m weed_sandbox master|volume|filer|admin -flag=value ...`: run one server until SIGTERM."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

MODULES = {"master": "master", "volume": "volume_server", "filer": "filer"}


def admin(argv: Sequence[str]) -> int:
    """Run the admin that `-dialect` names: both, unless told otherwise, as 4.44 serves them."""
    from weed_sandbox.admin import Dialect, Flags, Masters, Records, run
    from weed_sandbox.admin_classic import ClassicAdmin
    from weed_sandbox.admin_plugin import PluginAdmin

    words = [word for word in argv if not word.lstrip("-").startswith("dialect=")]
    chosen = next((word.partition("=")[2] for word in argv if word.lstrip("-").startswith("dialect=")), "both")
    makers: dict[str, list[Callable[[Flags, Masters, Records], Dialect]]] = {
        "classic": [ClassicAdmin],
        "plugin": [PluginAdmin],
        "both": [ClassicAdmin, PluginAdmin],
    }
    if chosen not in makers:
        print(f"-dialect={chosen} is none of {', '.join(makers)}", file=sys.stderr)
        return 2
    return run(Flags.parse(words, era="3.97" if chosen == "classic" else "4.44"), makers[chosen])


def main(argv: list[str]) -> int:
    """Run the server that the first word names."""
    if not argv or argv[0] not in {*MODULES, "admin"}:
        print(f"usage: python -m weed_sandbox {'|'.join(MODULES)}|admin -flag=value ...", file=sys.stderr)
        return 2
    if argv[0] == "admin":
        return admin(argv[1:])
    module = import_module(f"weed_sandbox.{MODULES[argv[0]]}")
    return int(module.main(argv[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
