"""Fraud heads on columns of features, by name, for bench.speed on public data."""
