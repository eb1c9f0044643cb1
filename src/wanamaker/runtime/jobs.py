"""A composed configuration as a job for the supervisor: one resolved file that every rank reads."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from wanamaker.runtime.processes import Job


def prepare(entry: str, config: DictConfig, num_ranks: int, environment: dict[str, str] | None = None) -> Job:
    """Write the resolved configuration to the run's folder and describe the job."""
    output_dir = Path(config.paths.output_dir)
    file = output_dir / ".hydra" / "resolved.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(resolved, DictConfig)
    OmegaConf.save(resolved, file)
    return Job(entry, file, output_dir, num_ranks, environment or {})
