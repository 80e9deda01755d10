#!/usr/bin/env bash
# Build dist/weed_worker.pyz: the agent and its libraries in one file for CPython 3.10 to 3.13.
#
#   ./build_zipapp.sh [x86_64|aarch64] [FILE]      PYTHON=python3.12 ./build_zipapp.sh
#
# Why not shiv: its files run on one Python version each, and its start-up code gives up on the folders that servers
# have (no HOME, noexec, a full disk, a damaged cache). The file is made by pyz/build.py from the pinned wheels, and
# started by pyz/weed_bootstrap.py; docs/packaging.md tells the whole story.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/pyz/build.py" "$@"
