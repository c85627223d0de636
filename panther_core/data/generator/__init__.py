"""Payments of an imagined population, with labelled fraud: for demos, load, tests and experiments.

People have habits that a model of sequences can learn and a model of single events can not; fraud is made of
events that are each ordinary for somebody (docs/generator.md: assumptions, separability, learnability).
"""

from panther_core.data.generator.build import generate
from panther_core.data.generator.config import GeneratorConfig
from panther_core.data.generator.people import PROFILE

__all__ = ["PROFILE", "GeneratorConfig", "generate"]
