"""A user's record of fixed size, and the pure functions from (state, event) to state and features."""
