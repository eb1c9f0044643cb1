"""Which parameters learn: the last stages of the body, minus name prefixes the user freezes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .architectures import architecture

#: ResNet stages from the last to the first, as torchvision counts ``trainable_backbone_layers``.
_RESNET_STAGES = (("layer4",), ("layer3",), ("layer2",), ("layer1",), ("conv1", "bn1"))


def freeze(net: nn.Module, name: str, trainable_layers: int, prefixes: Sequence[str]) -> list[str]:
    """Turn gradients off outside the last ``trainable_layers`` stages of the body and under ``prefixes``.

    Args:
        net: a detector with ``backbone.body``.
        name: its architecture.
        trainable_layers: 0 (whole body frozen) to 5, MobileNet to 6.
        prefixes: parameter-name prefixes such as ``backbone`` or ``rpn.head``.

    Returns:
        Names of the frozen parameters.

    Raises:
        ValueError: a count out of range, a prefix that fits no parameter, or nothing left to train.
    """
    spec = architecture(name)
    if not 0 <= trainable_layers <= spec.num_stages:
        raise ValueError(f"trainable_layers={trainable_layers}: {name} has stages 0..{spec.num_stages}")
    body = net.backbone.body
    if spec.body == "mobilenet_v3_large":
        blocks = list(body.children())
        starts = [0, *(i for i, b in enumerate(blocks) if getattr(b, "_is_cn", False)), len(blocks) - 1]
        first = len(blocks) if trainable_layers == 0 else starts[spec.num_stages - trainable_layers]
        for block in blocks[:first]:
            block.requires_grad_(False)
    else:
        for stage in _RESNET_STAGES[trainable_layers:]:
            for part in stage:
                getattr(body, part).requires_grad_(False)
    for prefix in prefixes:
        _freeze_prefix(net, prefix)
    if not any(p.requires_grad for p in net.parameters()):
        raise ValueError(f"trainable_layers={trainable_layers}, freeze={list(prefixes)}: nothing is left to train")
    return [n for n, p in net.named_parameters() if not p.requires_grad]


def _freeze_prefix(net: nn.Module, prefix: str) -> None:
    found = False
    for parameter_name, parameter in net.named_parameters():
        if parameter_name == prefix or parameter_name.startswith(prefix.rstrip(".") + "."):
            parameter.requires_grad_(False)
            found = True
    if not found:
        tops = sorted({".".join(n.split(".")[:2]) for n, _ in net.named_parameters()})
        raise ValueError(f"freeze={prefix!r} fits no parameter; names begin with {', '.join(tops)}")
