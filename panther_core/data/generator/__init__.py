"""Generates the payments of a population, with labelled fraud, for demos, load, tests and experiments.

People have habits that a model of sequences can learn and a model of single events can not. Each fraudulent payment
alone would be ordinary for some person (docs/generator.md: assumptions, separability, learnability).
"""

from panther_core.data.generator.build import generate
from panther_core.data.generator.config import GeneratorConfig
from panther_core.data.generator.people import PROFILE

__all__ = ["PROFILE", "GeneratorConfig", "generate"]
