"""Decisions drawn from predictions: pure functions on arrays."""
