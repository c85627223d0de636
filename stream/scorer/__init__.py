"""Calls to Triton: the client, the choice of a replica, joint encode calls, and the reload of a dead model."""
