"""How a model is fitted: slices in time, pretraining, fine-tuning, calibration, and the validation of each."""
