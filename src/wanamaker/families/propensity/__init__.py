"""Propensity: churn, conversion and lifetime value of customers, from tables and from sequences of events."""

from wanamaker.families.propensity.net import PropensityNet

__all__ = ["PropensityNet"]
