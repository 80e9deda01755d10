"""Tests, by tier: pure, sandbox, agent, artefact."""
