"""The agent that keeps merchants' histories, and publishes what decisions need of them; a process of its own, so that a
merchant of whom there is much to learn delays no decision."""
