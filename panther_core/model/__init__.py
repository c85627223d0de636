"""The PANTHER model (paper 3 and 4). The modules of this package import torch; the rest of panther_core does not."""
