"""Fits, reports and rolls out model versions. Never imports Faust."""
