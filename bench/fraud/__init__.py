"""Fraud heads on public data: protocols of folds and days, bootstraps, tables of results."""
