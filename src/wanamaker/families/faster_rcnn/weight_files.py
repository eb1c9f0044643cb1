"""Reading weight files: torchvision's downloads, plain state dicts, and our own checkpoints. Nothing is unpickled."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor
from torchvision.models import WeightsEnum

from wanamaker.errors import UserError

#: Where a checkpoint of FasterRCNNModule keeps what its tensors cannot say.
META_KEY = "faster_rcnn"


@dataclass(frozen=True)
class WeightFile:
    """A state dict in the current key style, and what is known about it.

    Attributes:
        source: where it came from, for messages.
        state: key -> tensor.
        class_names: without background; None when the file does not say.
        norm: the norm it was trained with; None when the file does not say.
        frozen_eps: variance offset of its frozen norms; None when the file does not say.
    """

    source: str
    state: dict[str, Tensor]
    class_names: list[str] | None = None
    norm: str | None = None
    frozen_eps: float | None = None
    meta: dict[str, object] = field(default_factory=dict)


def read_torchvision(weights: WeightsEnum, option: str) -> dict[str, Tensor]:
    """The state dict of a torchvision entry, from torch hub's folder or its server.

    Args:
        weights: torchvision's entry.
        option: how the user asked for it, for the message.

    Raises:
        UserError: not on disk and no network, or a damaged file; names the file, the folder and the remedies.
    """
    name = weights.url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    remedy = (
        f"Copy {name} into {folder} (set TORCH_HOME to keep it elsewhere), "
        "or pass a file you have with weights=local weights_path=FILE, or train from random weights with weights=none."
    )
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, TimeoutError, ConnectionError) as error:
        raise UserError(
            f"{option} needs the file {name} ({weights.meta.get('_file_size', 0):.0f} MB), which is not in {folder} "
            f"and could not be downloaded from {weights.url} ({error}). {remedy}"
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{option}: {folder / name} could not be fetched or read ({_first_line(error)}). "
            f"Delete it if it is there. {remedy}"
        ) from error
    return current_keys(state)


def read_local(path: str | Path) -> WeightFile:
    """Read a Wanamaker checkpoint, a torchvision state dict, or a torchvision training checkpoint.

    Args:
        path: the file.

    Raises:
        UserError: missing, truncated or foreign file, named.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"weights_path={path}: there is no such file. Give a .ckpt of ours or a torchvision .pth")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"weights_path={path}: not a file of tensors (it holds Python objects, or is no PyTorch file); "
            "it is not opened, because opening it could run code"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"weights_path={path}: the file is truncated or damaged ({path.stat().st_size} bytes; "
            f"{_first_line(error)}). Copy it again"
        ) from error
    if not isinstance(content, Mapping):
        raise UserError(f"weights_path={path}: holds a {type(content).__name__}, not a state dict")
    meta = content.get(META_KEY, {})
    state = content
    for wrapper in ("state_dict", "model"):  # ours and Lightning's; torchvision's reference script's
        if isinstance(content.get(wrapper), Mapping):
            state = content[wrapper]
            break
    tensors = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if any(key.startswith("net.") for key in tensors):
        tensors = {key.removeprefix("net."): v for key, v in tensors.items() if key.startswith("net.")}
    if not tensors:
        raise UserError(f"weights_path={path}: no tensors found; give a state dict or a checkpoint")
    return WeightFile(
        source=str(path),
        state=current_keys(tensors),
        class_names=list(meta["class_names"]) if meta.get("class_names") else None,
        norm=meta.get("norm"),
        frozen_eps=meta.get("frozen_eps"),
        meta=dict(meta),
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def current_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys that torchvision changed since its first detection files."""
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[:3] == ["rpn", "head", "conv"] and len(parts) == 4:
            parts[3:] = ["0", "0", parts[3]]
        elif parts[:2] == ["backbone", "fpn"] and len(parts) == 5 and parts[2] in ("inner_blocks", "layer_blocks"):
            parts[4:] = ["0", parts[4]]
        renamed[".".join(parts)] = value
    return renamed
