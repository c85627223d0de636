"""A version's way into service and out of it: loaded into Triton, announced, refreshed from Kafka's log, retired."""
