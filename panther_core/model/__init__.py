"""The PANTHER model (paper 3 and 4). Torch is imported by the modules in here only, and not by this file."""
