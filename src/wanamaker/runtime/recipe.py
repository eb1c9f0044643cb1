"""The recipe inside a checkpoint as a configuration of its own, for evaluate.py."""

from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from wanamaker.errors import UserError
from wanamaker.runtime.checkpoint import read_recipe

_KEPT = ("experiment", "task_name", "seed", "tags", "monitor", "data", "model")


def register_recipe(arguments: list[str]) -> list[str]:
    """Register the recipe of `ckpt_path=FILE` as the Hydra config `recipe`.

    When the command chooses other data (`data=GROUP`), the recipe's own are left out rather than mixed in.

    Returns:
        The arguments, with the path made absolute.

    Raises:
        UserError: when no checkpoint is named or it holds no recipe.
    """
    paths = [argument.split("=", 1)[1] for argument in arguments if argument.startswith("ckpt_path=")]
    path = paths[-1] if paths else None  # of two, the last counts, as for every other option
    if not path or path == "null":
        raise UserError("Name the checkpoint to evaluate: ckpt_path=FILE (logs/<task>/runs/<run id>/checkpoints/...).")
    file = Path(path.strip("'\"")).expanduser().absolute()
    recipe = read_recipe(file)
    other_data = any(argument.startswith("data=") for argument in arguments)
    kept = {key: recipe[key] for key in _KEPT if key in recipe and not (key == "data" and other_data)}
    if "data" in recipe:
        kept["trained_on"] = recipe.data  # what other data may follow: the size of the images, for one
    ConfigStore.instance().store(name="recipe", node=OmegaConf.create(kept), provider="wanamaker")
    return [f"ckpt_path='{file}'" if argument.startswith("ckpt_path=") else argument for argument in arguments]
