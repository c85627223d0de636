"""Records, tables, the schema and the tokens made of them, readers of files, and generated data."""
