"""The log of transactions and labels as Parquet files: written from Kafka, each record once, and read by date."""
