"""The stream side: Faust agents, state in RocksDB, Triton client, publishing, replay. Never imports torch."""
