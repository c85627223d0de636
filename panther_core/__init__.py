"""The shared domain: schemas, tokens, state, engine and model. Pure: no Kafka, no Triton, no Faust."""
