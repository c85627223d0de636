"""The model's arithmetic for single new events: compiled by numba for a CPU, by Triton's compiler for a GPU; and the
plain torch operators that tests compare both with."""
