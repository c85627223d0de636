"""Records, tables and what they are made of: schemas, tokens, readers of files, generated data."""
