"""Triton as the engine sees it: client, replicas, and what is done about a dead model."""
