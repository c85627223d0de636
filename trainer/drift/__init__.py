"""Drift before labels: what a training saw, kept in the artifact, beside what the version sees now."""
