"""The worker: micro-batches of transactions become decisions, alerts and states."""
