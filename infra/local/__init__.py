"""Kafka and Triton as processes of this machine, without Docker: Java and Triton come from Python packages."""
