"""From an artifact to users: into Triton, live, refreshed from Kafka's log, retired."""
