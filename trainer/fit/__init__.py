"""How a model is fitted: slices in time, pretraining, fine-tuning, calibration, and what validates each."""
