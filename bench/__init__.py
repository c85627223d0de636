"""All that measures: each figure of docs/benchmarks comes from a command whose work is in here."""
