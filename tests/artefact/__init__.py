"""Tests of weed_worker.pyz itself, on every Python that this machine has."""
