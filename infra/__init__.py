"""The local stack (Kafka and Triton without Docker), the command line, images and dashboards."""
