"""Faster R-CNN: product-attribute detection in photos.

``faster_rcnn`` builds the net and needs no Lightning; the LightningModule is in ``module``.
"""

from .net import FasterRCNNNet, faster_rcnn

__all__ = ["FasterRCNNNet", "faster_rcnn"]
