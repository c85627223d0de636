"""Next item on public sequence sets: PANTHER's layers beside Transformer, SASRec and HSTU, all else equal."""
