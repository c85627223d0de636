"""The stream side: Faust agents, state in RocksDB, Triton client, publishing. Never imports torch."""
