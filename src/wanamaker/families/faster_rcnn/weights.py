"""Starting weights: what matched, what did not, and which rows of the head could be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from wanamaker.errors import UserError

from .architectures import architecture
from .norms import WITH_STATISTICS, set_frozen_eps
from .weight_files import WeightFile, read_local, read_torchvision

WEIGHTS = ("none", "imagenet", "coco", "local")

#: The layers whose rows are classes, background first; bbox_pred has four rows per class.
_HEAD = "roi_heads.box_predictor."


@dataclass(frozen=True)
class WeightReport:
    """What loading did.

    Attributes:
        source: ``none``, or the file and how it was asked for.
        matched: keys loaded as they are.
        missing: keys of the net that the file lacks; they keep their random values.
        unexpected: keys of the file that the net lacks; not used.
        mismatched: (key, shape in the file, shape in the net) of equal names but other shapes; not used.
        kept_classes: classes whose head rows were copied by name.
        new_classes: classes whose head rows start at random.
    """

    source: str = "none"
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    kept_classes: list[str] = field(default_factory=list)
    new_classes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.source == "none":
            return "Weights: random (weights=none)"
        wanted = len(self.matched) + len(self.missing) + len(self.mismatched)
        lines = [f"Weights from {self.source}: {len(self.matched)} of {wanted} tensors matched"]
        if self.missing:
            lines.append(f"  random, not in the file ({len(self.missing)}): {_shortened(self.missing)}")
        if self.unexpected:
            lines.append(f"  in the file only, not used ({len(self.unexpected)}): {_shortened(self.unexpected)}")
        if self.mismatched:
            shown = [f"{key} {there} in the file, {here} here" for key, there, here in self.mismatched]
            lines.append(f"  other shape, not used ({len(shown)}): {_shortened(shown)}")
        if self.kept_classes or self.new_classes:
            lines.append(f"  head: {len(self.kept_classes)} classes kept by name, {len(self.new_classes)} new")
            if self.new_classes:
                lines.append(f"  new classes: {_shortened(self.new_classes)}")
        return "\n".join(lines)


def _shortened(items: Sequence[str], limit: int = 6) -> str:
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown}, and {len(items) - limit} more"


@dataclass(frozen=True)
class PendingHead:
    """Head rows of a file, waiting for the class names of the data. ``state``: box_predictor keys -> tensor."""

    class_names: list[str]
    state: dict[str, Tensor]


def read_weights(name: str, weights: str, weights_path: str | Path | None) -> WeightFile | None:
    """Find the starting weights; None for ``none``.

    Args:
        name: architecture.
        weights: one of :data:`WEIGHTS`.
        weights_path: the file of ``local``.

    Raises:
        UserError: a combination that cannot be, or a file that cannot be read.
    """
    spec = architecture(name)
    check_choice(name, weights, weights_path)
    if weights == "none":
        return None
    if weights == "imagenet":
        state = read_torchvision(spec.imagenet, f"weights=imagenet with architecture={name}")
        body = {
            f"backbone.body.{key.removeprefix('features.')}": value  # of MobileNet a detector holds only the features
            for key, value in state.items()
            if not key.startswith(("fc.", "classifier."))
        }
        return WeightFile(f"{spec.imagenet} (weights=imagenet)", body)
    coco_names = spec.coco.meta["categories"][1:] if spec.coco else None
    if weights == "coco":
        state = read_torchvision(spec.coco, f"weights=coco with architecture={name}")
        return WeightFile(f"{spec.coco} (weights=coco)", state, coco_names, frozen_eps=spec.coco_frozen_eps)
    file = read_local(weights_path)
    if spec.coco and Path(weights_path).name == spec.coco.url.rsplit("/", 1)[-1]:
        # The very file that weights=coco would have fetched.
        file = replace(file, class_names=coco_names, frozen_eps=spec.coco_frozen_eps)
    return file


def check_choice(name: str, weights: str, weights_path: str | Path | None) -> None:
    """Refuse combinations of options without touching a file.

    Raises:
        UserError: an unknown value, a path without ``local`` or the reverse, ``coco`` where torchvision has none.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights={weights!r}: choose one of {', '.join(WEIGHTS)}")
    if (weights == "local") != (weights_path is not None):
        raise UserError(
            f"weights={weights} with weights_path={weights_path}: weights_path goes with weights=local, only with it"
        )
    if weights == "coco" and architecture(name).coco is None:
        raise UserError(
            f"weights=coco: torchvision has no COCO weights for architecture={name}; "
            "choose weights=imagenet or none, or another architecture"
        )


def load_weights(net: nn.Module, file: WeightFile, norm: str) -> tuple[WeightReport, PendingHead | None]:
    """Copy what fits from ``file`` into ``net``.

    The class rows of the head are held back when the file names its classes: which row goes where is known only
    when the data names its own (:func:`place_head`).

    Args:
        net: a detector; changed in place.
        file: the weights.
        norm: of ``net``.

    Raises:
        UserError: norms that do not fit each other, or no key in common.
    """
    state = dict(file.state)
    own = net.state_dict()
    _check_norm(state, own, file, norm)
    for counter in [key for key in state if key.endswith("num_batches_tracked")]:
        if counter not in own:
            del state[counter]
    pending = None
    head_keys = [key for key in own if key.startswith(_HEAD)]
    if file.class_names and all(key in state for key in head_keys):
        rows = len(state[f"{_HEAD}cls_score.weight"])
        if rows != len(file.class_names) + 1:
            raise UserError(f"{file.source}: names {len(file.class_names)} classes but its head has {rows} rows")
        pending = PendingHead(list(file.class_names), {key: state.pop(key) for key in head_keys})
    matched = [key for key in own if key in state and state[key].shape == own[key].shape]
    if not matched:
        raise UserError(
            f"{file.source} holds another model: none of its {len(state)} tensors fits "
            f"(it has {_shortened(sorted(state), 3)}; this net has {_shortened(sorted(own), 3)})"
        )
    net.load_state_dict({key: state[key] for key in matched}, strict=False)
    if file.frozen_eps is not None:
        set_frozen_eps(net, file.frozen_eps)
    waiting = head_keys if pending else []
    ignored = ("num_batches_tracked",)
    report = WeightReport(
        source=file.source,
        matched=matched,
        missing=[k for k in own if k not in state and k not in waiting and not k.endswith(ignored)],
        unexpected=[key for key in state if key not in own],
        mismatched=[
            (k, tuple(state[k].shape), tuple(own[k].shape)) for k in own if k in state and k not in set(matched)
        ],
    )
    return report, pending


def _check_norm(state: dict[str, Tensor], own: dict[str, Tensor], file: WeightFile, norm: str) -> None:
    """Statistics present on one side only would load "successfully" and make the activations explode."""
    in_file = any(key.endswith("running_var") and key.startswith("backbone.body") for key in state)
    in_net = norm in WITH_STATISTICS
    if in_file != in_net and any(key.startswith("backbone.body") and key in own for key in state):
        there = file.norm or ("batch normalisation" if in_file else "group normalisation")
        choices = ", ".join(WITH_STATISTICS) if in_file else "group"
        raise UserError(f"norm={norm}: {file.source} was trained with {there}; choose norm={choices}")


@torch.no_grad()
def place_head(net: nn.Module, pending: PendingHead, class_names: Sequence[str], report: WeightReport) -> WeightReport:
    """Copy the head rows of equally named classes, and of background, from ``pending``; the rest stays random.

    Args:
        net: a detector; changed in place.
        pending: rows of the file.
        class_names: of the net, without background.
        report: of the rest of the loading.

    Returns:
        ``report`` with the head's classes filled in.
    """
    row_of = {name: row + 1 for row, name in enumerate(pending.class_names)}
    pairs = [(0, 0), *((row_of[n], i + 1) for i, n in enumerate(class_names) if n in row_of)]
    source, target = (torch.tensor(column) for column in zip(*pairs, strict=True))
    own = net.state_dict()
    mismatched = list(report.mismatched)
    fits = True
    for key, value in pending.state.items():
        if value.shape[1:] != own[key].shape[1:]:
            mismatched.append((key, tuple(value.shape), tuple(own[key].shape)))
            fits = False
    if fits:
        for key, value in pending.state.items():
            rows = 4 if "bbox_pred" in key else 1
            there = value.unflatten(0, (-1, rows))
            own[key].unflatten(0, (-1, rows))[target.to(own[key].device)] = there[source].to(own[key].device)
    kept = [n for n in class_names if fits and n in row_of]
    return replace(
        report,
        matched=[*report.matched, *(pending.state if fits else ())],
        mismatched=mismatched,
        kept_classes=kept,
        new_classes=[n for n in class_names if n not in set(kept)],
    )
