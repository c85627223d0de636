"""Benchmarks that need only the model or the worker; each is run by `panther bench NAME`."""
