"""Fixtures for the whole suite."""

pytest_plugins = ["tests.fixtures_stack"]
