"""The model's arithmetic for single new events: numba on CPU, Triton's language on CUDA, plain torch as the
reference."""
