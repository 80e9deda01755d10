"""What build.py writes into weed_release.py, the module of the archive that says what the archive is."""

NAME: str
ARCHITECTURE: str
PYTHONS: tuple[tuple[int, int], ...]
GLIBC: tuple[int, int]
