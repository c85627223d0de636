"""A replay through the real system: a worker of its own, topics of its own, beside the live one."""
