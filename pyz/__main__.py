"""Leave a Python that the file is not built for, isolate any other from its host, and hand over to weed_bootstrap.

Any Python that can open a zip file reads this, 2.7 included, so the syntax stays what they all know.
"""
# ruff: noqa: UP031

import os
import sys

import weed_release

EXIT_REFUSED = 70


def main():
    # type: () -> int
    """Start the agent and return its exit status."""
    if sys.version_info[:2] not in weed_release.PYTHONS or sys.implementation.name != "cpython":
        return start_another()
    if not (sys.flags.isolated and sys.flags.no_site):
        return isolate()
    try:
        from weed_bootstrap import start
    except ImportError as error:
        return refuse("%s lacks a part of the standard library: %s" % (sys.executable, error))
    return start()


def refuse(reason):
    # type: (str) -> int
    """Say in one line why the agent is not started; return the exit status."""
    sys.stderr.write("weed_worker: %s\n" % reason)
    return EXIT_REFUSED


def start_another():
    # type: () -> int
    """Start again with a Python on PATH that will do, the newest first: python3 may be older than others on a host.

    Where there is none, say which ones the file runs on.
    """
    for version in reversed(weed_release.PYTHONS):
        for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
            candidate = os.path.join(folder, "python%d.%d" % version)
            if not os.path.isabs(candidate) or not os.access(candidate, os.X_OK):
                continue
            try:
                os.execv(candidate, [candidate, "-I", "-S", "-X", "utf8"] + sys.argv)
            except OSError:
                pass  # the next one may do
    return refuse_version()


def refuse_version():
    # type: () -> int
    """Say which Pythons the file runs on."""
    import platform  # slow to load, and of use only here

    versions = ["%d.%d" % version for version in weed_release.PYTHONS]
    return refuse(
        "needs CPython %s, but %s is %s %s; start it with one of those, such as: python%s %s"
        % (
            ", ".join(versions),
            sys.executable or "this",
            platform.python_implementation(),
            platform.python_version(),
            versions[-1],
            sys.argv[0],
        )
    )


def isolate():
    # type: () -> int
    """Start the interpreter again without the host's PYTHON* variables, site-packages and .pth files.

    Any of them could put other code before ours. Only a failure returns.
    """
    try:
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-X", "utf8"] + sys.orig_argv[1:])
    except OSError as error:
        return refuse("cannot start %r with -I -S: %s" % (sys.executable, error))


if __name__ == "__main__":
    sys.exit(main())
