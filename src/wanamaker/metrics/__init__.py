"""Metrics: one `torchmetrics.Metric` subclass per file, with the arrays and evaluators they need."""
