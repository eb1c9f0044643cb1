"""The command line, checked before Hydra acts on it: a misspelt option fails with the nearest one suggested.

Hydra wants a `+` before a key that no file names. Here a key that the `_target_` above it accepts as an argument
needs none: `trainer.gradient_clip_val=1` works although the recipe never mentions it.
"""

from collections.abc import Callable
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from wanamaker.errors import UserError, nearest

Arguments = Callable[[str], frozenset[str] | None]


def check(
    config_name: str, arguments: list[str], multirun: bool, arguments_of: Arguments
) -> tuple[list[str], DictConfig]:
    """Compose once, quietly, and return the arguments as Hydra wants them together with the composed config.

    Args:
        config_name: `train` or `evaluate`.
        arguments: What the user typed, flags removed.
        multirun: Whether values may be sweeps.
        arguments_of: From a dotted `_target_` to the argument names it accepts, or None when it accepts any.

    Raises:
        UserError: for anything the user can mend, naming the option and the nearest right one.
    """
    overrides = [_parse(argument) for argument in arguments]
    for override in overrides:
        if override.is_sweep_override() and not multirun:
            raise UserError(
                f"'{override.input_line}' names several values: add -m to run one trial per value, "
                "or write a list as key=[a,b]."
            )
        if _is_group(override):
            _check_choice(override)
        if override.key_or_group.split(".")[:2] == ["hydra", "runtime"]:
            raise UserError(
                f"{override.input_line}: Hydra itself fills in 'hydra.runtime' when the run begins. Results go where "
                "paths.log_dir (or WANAMAKER_LOG_DIR) says; hydra.run.dir=FOLDER puts a single run exactly there."
            )
    singles = [_first_of_sweep(override) for override in overrides]
    groups = [line for line, override in zip(singles, overrides, strict=True) if _is_group(override)]
    base = _compose(config_name, groups)
    # A target given on the command line decides what may stand beside it, not the recipe's.
    targets = {o.key_or_group: str(o.value()) for o in overrides if o.key_or_group.endswith("._target_")}
    checked = list(arguments)
    for index, override in enumerate(overrides):
        plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        if plain and not _is_group(override) and _is_new(base, override.key_or_group, targets, arguments_of):
            checked[index], singles[index] = "++" + checked[index], "++" + singles[index]
        elif plain and not _is_group(override) and not override.is_sweep_override():
            _check_names(base, override)
    return checked, _compose(config_name, singles)


def _parse(argument: str) -> Override:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise UserError(
            f"Cannot read the option '{argument}': options are key=value without spaces around '='; "
            f"quote values that hold commas, brackets or spaces. ({str(error).splitlines()[0]})"
        ) from error


def _first_of_sweep(override: Override) -> str:
    """One value out of a sweep, so that a multirun's keys can be checked before the first trial."""
    if not override.is_sweep_override():
        return str(override.input_line)
    prefix = "++" if override.is_force_add() else "+" if override.is_add() else ""
    # interval() is a continuum: its lower end stands for it
    continuum = override.is_interval_sweep()
    value = getattr(override.value(), "start", None) if continuum else next(override.sweep_string_iterator())
    return f"{prefix}{override.get_key_element().lstrip('+')}={value}"


def _is_group(override: Override) -> bool:
    """Whether an override chooses a file; where files are looked for is part of that choice."""
    key = override.key_or_group
    loader = GlobalHydra.instance().config_loader()
    return (
        key == "hydra.searchpath" or "/" in key or override.package is not None or bool(loader.get_group_options(key))
    )


def _check_choice(override: Override) -> None:
    """`logger=null`, `trainer=2`: Hydra says of these that an override must be a string."""
    value = override.value()
    if not override.is_delete() and (value is None or isinstance(value, bool | int | float)):
        options = GlobalHydra.instance().config_loader().get_group_options(override.key_or_group, ObjectType.CONFIG)
        raise UserError(
            f"{override.input_line}: '{override.key_or_group}' is chosen by the name of a file."
            f"{nearest(str(value), options)}"
        )


def _is_new(config: DictConfig, key: str, targets: dict[str, str], arguments_of: Arguments) -> bool:
    """Whether a key must be added rather than changed; an unknown key is refused."""
    node: Any = config
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            return False  # an index into a list, or the inside of a value: Hydra knows best
        if part in node.keys():  # noqa: SIM118 - `in node` is False for a key that must still be given
            node = node._get_node(part)
            walked.append(part)
            continue
        target = targets.get(".".join([*walked, "_target_"]), node.get("_target_"))
        known = {str(name) for name in node if not str(name).startswith("_")}
        if not walked:
            known |= set(GlobalHydra.instance().config_loader().list_groups(""))
        accepted = arguments_of(str(target)) if target else frozenset()
        if not target and walked and not known:
            return True  # an empty mapping is there to be filled, such as decision.scenarios
        if accepted is None or part in accepted:
            return True
        place = f"'{'.'.join(walked)}'" if walked else "the top level"
        place += f" ({target})" if target else ""
        raise UserError(f"'{key}' is no option: {place} has no '{part}'.{nearest(part, known | accepted)}")
    return isinstance(node, DictConfig) and not node  # {} given as a whole is added to


def _check_names(config: DictConfig, override: Override) -> None:
    """A mapping given for one that names entries already changes these; Hydra says of others "not in struct"."""
    key, value = override.key_or_group, override.value()
    node: Any = config
    for part in key.split("."):  # node by node: what stands there may interpolate what only a run knows
        node = node._get_node(part) if isinstance(node, DictConfig) else None
    if not isinstance(value, dict) or not isinstance(node, DictConfig) or not isinstance(node._content, dict):
        return
    if "_target_" in node:
        return
    for name in (str(name) for name in value):
        if name not in node:
            known = [str(entry) for entry in node]
            raise UserError(
                f"{override.input_line}: '{key}' has no '{name}'.{nearest(name, known)} To add it to those, write "
                f"'+{key}.{name}=...'; to have only your own, change the file that names them."
            )


def _compose(config_name: str, overrides: list[str]) -> DictConfig:
    try:
        return compose(config_name, overrides=overrides, return_hydra_config=True)
    except MissingConfigException as error:
        raise _missing_file(error) from error
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0]
        detail = str(error.__cause__ or "").strip().splitlines()[:1]
        raise UserError(" ".join([first, *detail])) from error


def _missing_file(error: MissingConfigException) -> UserError:
    """`experiment=nam_gio` and the like: the group and the nearest file of it."""
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return UserError(str(error).strip().splitlines()[0])
    options = GlobalHydra.instance().config_loader().get_group_options(group, ObjectType.CONFIG)
    menu = " `python train.py` alone lists them." if group == "experiment" else ""
    return UserError(f"There is no {group} '{name}'.{nearest(name, options)}{menu}")
