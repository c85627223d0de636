"""Fraud heads on columns of features, by name, for benchmarks on public data."""
