"""The Bayesian marketing mix in Pyro: hierarchical, collapsed, with checked posteriors. See README.md."""

from wanamaker.families.bayesian_mmm.inference import Inference
from wanamaker.families.bayesian_mmm.model import MixModel

__all__ = ["Inference", "MixModel"]
