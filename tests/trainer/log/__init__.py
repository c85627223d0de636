"""Tests of trainer.log."""
