"""Datasets, pretraining, fine-tuning, evaluation, export and promotion of model versions."""
