"""Uplift: what each offer would do for each customer, by cross-fitted neural meta-learners."""

from wanamaker.families.x_learner.net import XLearnerNet

__all__ = ["XLearnerNet"]
