"""The local stack (Kafka and Triton without Docker), images, dashboards, topics, and the demo of the whole system."""
