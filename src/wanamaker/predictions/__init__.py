"""Prediction artefacts: what a model hands to decisions and reports, as typed arrays and as Parquet files.

Decisions and reports read these types and never a model: two families that write the same type can be told apart by
nobody behind them. A new type gets its own file here, is decorated with `prediction_kind`, and is named below.
"""

from wanamaker.predictions.artefact import KINDS, atomic_path, parts_of, prediction_kind, read_predictions
from wanamaker.predictions.detections import Detections
from wanamaker.predictions.mix import MixPredictions, MixResponse
from wanamaker.predictions.posterior import MixPosterior
from wanamaker.predictions.propensity import PropensityPredictions
from wanamaker.predictions.uplift import UpliftPredictions

__all__ = [
    "KINDS",
    "Detections",
    "MixPosterior",
    "MixPredictions",
    "MixResponse",
    "PropensityPredictions",
    "UpliftPredictions",
    "atomic_path",
    "parts_of",
    "prediction_kind",
    "read_predictions",
]
