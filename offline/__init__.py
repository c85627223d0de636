"""Looking back: the same decisions computed again from a log, compared, reported, explained. May import torch."""
