"""Wanamaker: train every model of marketing measurement, and turn each into a decision."""

__version__ = "0.1.0"
