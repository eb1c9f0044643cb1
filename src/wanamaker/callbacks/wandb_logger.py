"""Weights & Biases that works without an account: offline until there is a key."""

import netrc
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from wanamaker.errors import UserError

CONNECT_TIMEOUT_S = 5.0


class OfflineFirstWandbLogger(WandbLogger):
    """Lightning's `WandbLogger` that never asks for a login and never fails a run.

    Whether it talks to a server is decided by what W&B itself reads. `WANDB_MODE`, where set, is obeyed; otherwise a
    key (`WANDB_API_KEY`, an identity token, or an entry for the server in the netrc file) means online, none means
    offline. Offline everything is kept under `save_dir/wandb`, and one line says how to upload it. If the server
    cannot be reached, or refuses the key, the run goes on offline and a warning says so.

    The id of the W&B run is made from ours, so that a resumed run goes on in the same W&B run; where the folder is not
    named after the run, the id adds the folder's name, so that trials of a sweep differ. What the terminal shows is not
    captured. All of it happens on rank zero.

    The end of a run is announced by `finish`, because Lightning finalises loggers after every stage.

    Args:
        project: W&B project.
        run_id: Our run id.
        save_dir: Folder of the run.
        name: What the run is called in the W&B table; the run id by default.
        group: Under which runs are grouped, usually the experiment.
        tags: Tags of the run.
        entity: Team or user; the default of the account if None.
        log_model: Upload checkpoints as artifacts: False, True (at the end) or "all". Needs a key.
        init_timeout_s: Seconds to wait for the server before going offline.

    Raises:
        UserError: for `log_model` without a key.
    """

    def __init__(
        self,
        project: str = "wanamaker",
        run_id: str | None = None,
        save_dir: str = ".",
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        entity: str | None = None,
        log_model: bool | str = False,
        init_timeout_s: float = 30.0,
    ) -> None:
        self.mode = mode()
        if log_model and self.mode != "online":
            raise UserError(
                f"logger.wandb.log_model={log_model} uploads checkpoints, and W&B is {self.mode}: "
                "set WANDB_API_KEY, or leave log_model out."
            )
        super().__init__(
            name=name or run_id,
            save_dir=save_dir,
            id=run_name(run_id, save_dir) if run_id else None,
            project=project,
            log_model=log_model,  # type: ignore[arg-type]
            group=group,
            tags=tags,
            entity=entity,
            mode=self.mode,
            settings={"console": "off", "init_timeout": init_timeout_s, "silent": self.mode != "online"},
        )
        self._wandb_init.pop("anonymous")  # Lightning passes it, and W&B warns that it has no effect

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The `wandb.Run`, started on first use."""
        if self._experiment is None:
            self._start()
        return self._experiment

    def _start(self) -> None:
        import wandb

        if wandb.run is not None:
            wandb.finish()  # the run of an earlier trial in this process
        Path(self._save_dir or ".").mkdir(
            parents=True, exist_ok=True
        )  # else W&B writes to the system's temporary folder
        reason = unreachable() if self.mode == "online" else None
        try:
            run = None if reason else wandb.init(**self._wandb_init)
        except wandb.Error as error:
            if self.mode != "online":
                raise
            run, reason = None, str(error).strip().splitlines()[0]
            wandb.teardown()  # drops the refused connection
        if run is None:
            rank_zero_warn(f"W&B cannot be used online ({reason}): this run goes on offline.")
            self.mode = self._wandb_init["mode"] = "offline"
            self._wandb_init["settings"]["silent"] = True
            self._log_model = False
            run = wandb.init(**self._wandb_init)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self._experiment = run
        if self.mode == "offline":
            folder = Path(run.dir).parent
            folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            rank_zero_info(f"W&B is offline. Upload this run later with: wandb sync {folder}")

    @rank_zero_only
    def finish(self, status: str = "success") -> None:
        """End the W&B run and wait until it is written; any status but "success" marks it as failed."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End of a stage, and of the run where it failed."""
        super().finalize(status)
        if status != "success":
            self.finish(status)


def mode() -> str:
    """ "online" or "offline", or what `WANDB_MODE` says."""
    given = os.environ.get("WANDB_MODE")
    if given:
        return "offline" if given == "dryrun" else given
    return "online" if has_key() else "offline"


def _server() -> tuple[str, int]:
    url = urlparse(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")
    return url.hostname or "", url.port or (80 if url.scheme == "http" else 443)


def unreachable() -> str | None:
    """Why no connection to the W&B server can be opened, or None where one can, or a proxy decides.

    W&B itself keeps trying for much longer than a run should wait to start.
    """
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY")):
        return None
    host, port = _server()
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return f"{host}:{port}: {error}"
    return None


def has_key() -> bool:
    """Whether W&B would find credentials for its server without asking."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host, _ = _server()
    default = Path("~/_netrc" if os.name == "nt" else "~/.netrc").expanduser()
    path = Path(os.environ.get("NETRC") or default).expanduser()
    if not path.is_file():
        return False
    try:
        return host in netrc.netrc(path).hosts
    except (netrc.NetrcParseError, OSError) as error:
        rank_zero_warn(f"{path} cannot be read ({error}): W&B stays offline.")
        return False


def run_name(run_id: str, save_dir: str) -> str:
    """An id W&B accepts, the same whenever a run is resumed and another for every trial of a sweep."""
    folder = Path(save_dir).absolute().name
    text = run_id if folder == run_id or run_id.endswith(f"-{folder}") else f"{run_id}-{folder}"
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:128]
