"""The agent, taking it that volume servers forget old replicas within CACHED_FOR seconds (0), not within ten minutes.

For tests in which no client writes through a volume server that remembers.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import weed_worker
from weed_safety import location_cache

if __name__ == "__main__":
    location_cache.CACHED_FOR = float(os.environ.get("CACHED_FOR", "0"))
    sys.exit(weed_worker.main())
