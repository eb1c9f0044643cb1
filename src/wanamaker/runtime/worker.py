"""What every rank runs: `python -m wanamaker.runtime.worker train|evaluate CONFIG`. Started by `processes`."""

import json
import os
import sys
import time
import traceback
from pathlib import Path

from wanamaker.errors import UserError
from wanamaker.runtime.leave import leave
from wanamaker.runtime.processes import error_record


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent is gone, so that no rank is ever left behind training alone."""
    if sys.platform == "linux":
        import ctypes
        import signal

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _is_connection_error(error: BaseException) -> bool:
    text = str(error).lower()
    words = ("connection closed by peer", "connection reset by peer", "socket", "broken pipe", "gloo", "nccl")
    return isinstance(error, ConnectionError) or any(word in text for word in words)


def _record(error: BaseException) -> None:
    record = {
        "time": time.time(),
        "user": isinstance(error, UserError),
        "connection": _is_connection_error(error),
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    path = error_record(Path(os.environ["WANAMAKER_RANKS_DIR"]), int(os.environ["RANK"]))
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    os.replace(partial, path)


def main() -> int:
    """Run one rank and return its exit status."""
    _die_with_parent()
    entry, config_file = sys.argv[1:]
    try:
        from omegaconf import OmegaConf

        from wanamaker.runtime import run

        config = OmegaConf.load(config_file)
        value = run.ENTRIES[entry](config)
        if os.environ["RANK"] == "0":
            result = Path(os.environ["WANAMAKER_RANKS_DIR"]) / "result.json"
            result.write_text(json.dumps({"value": value}))
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        _record(error)
        print("".join(traceback.format_exception(error)), file=sys.stderr) if os.environ["RANK"] != "0" else None
        return 2 if isinstance(error, UserError) else 1


if __name__ == "__main__":
    leave(main())
