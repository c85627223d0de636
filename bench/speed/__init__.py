"""The speed of parts: the incremental step, pretraining, readers, Triton alone, a GPU."""
