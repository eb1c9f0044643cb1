"""The menu of experiments and the help page. Nothing here imports torch: both appear at once."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

USAGE = """[bold]python train.py experiment=NAME[/bold] \\[option=value ...]       train, test, and keep the best
[bold]python train.py -m experiment=NAME key=a,b[/bold] ...        one trial per value (sweep=... for a search)
[bold]python evaluate.py ckpt_path=FILE[/bold] \\[decision=...] ...    rebuild a trained model and use it"""

OPTIONS = (
    ("trainer.devices=2", "two GPUs, or two CPU processes where there is none"),
    ("trainer=ddp_cpu|gpu|ddp|slurm", "where it runs"),
    ("trainer.max_epochs=3  model.optimizer.lr=1e-3", "any argument of any part, by its path"),
    ("logger=csv|tensorboard|wandb  logger=[csv,wandb]", "where it is watched"),
    ("debug=fdr|limit|overfit|anomaly|profile", "short runs that find defects"),
    ("run_id=NAME", "names the run; the same command with the same id resumes it"),
    ("--cfg job", "print the composed configuration and stop"),
)


def describe(recipe: Path) -> str:
    """The first comment of a recipe that is not its package line."""
    for line in recipe.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        return line.lstrip("# ").strip() if line.startswith("#") else ""
    return ""


def print_menu(config_dir: Path, console: Console | None = None) -> None:
    """Print every experiment with its one-sentence description, in the order of its family."""
    console = console or Console()
    console.print("\n[bold]Wanamaker[/bold]: pick an experiment\n")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    for recipe in sorted((config_dir / "experiment").glob("*.yaml")):
        table.add_row(recipe.stem, describe(recipe))
    console.print(table)
    console.print(f"\n{USAGE}\n\nMore: [bold]python train.py --help[/bold]\n", highlight=False)


def print_help(config_dir: Path, console: Console | None = None) -> None:
    """Print usage, the common options, and the choices of every configuration group."""
    console = console or Console()
    console.print(f"\n[bold]Wanamaker[/bold]\n\n{USAGE}\n\n[bold]Common options[/bold]", highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="cyan")
    table.add_column()
    for option, meaning in OPTIONS:
        table.add_row(option.replace("[", "\\["), meaning)
    console.print(table)
    console.print("\n[bold]Groups[/bold] (group=choice)")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    for group in sorted(path for path in config_dir.iterdir() if path.is_dir() and path.name not in ("hydra",)):
        choices = sorted(recipe.stem for recipe in group.glob("*.yaml"))
        if choices:
            table.add_row(group.name, ", ".join(choices))
    console.print(table)
    console.print("\nEvery option of Hydra works too: [bold]--hydra-help[/bold].\n", highlight=False)
