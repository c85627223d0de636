"""A replay through the real system, by a worker and topics of its own beside the live ones."""
