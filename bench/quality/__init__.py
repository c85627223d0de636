"""What a model learns: ablations, transfer to other logs, users it has never seen."""
