"""Benchmarks of the whole system: `panther bench e2e`, `stream`, `swap`, `outage`, `parity` and `replay-report`.

They measure throughput, latency, equality with a replay, and quality against labels. `panther backtest`, which measures
what refreshing earns, is here too.
"""
