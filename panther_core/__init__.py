"""The shared domain: schemas, tokens, state, engine and model. No Triton and no Faust; Kafka in `kafka` alone."""
