"""Reading Kafka topics from outside a consumer group: the only part of the core that talks to a broker."""
