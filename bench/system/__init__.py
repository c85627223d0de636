"""The whole system under load: throughput, latency, parity, a switch of models, what refreshing earns."""
