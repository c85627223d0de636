"""Kafka and Triton as processes of this machine, from Python packages alone: no Docker."""
