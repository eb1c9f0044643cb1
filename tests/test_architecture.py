"""The plan of the house, held by reading the code: who may import whom, and what every family must have."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

PACKAGE = ROOT / "src" / "wanamaker"
FAMILIES = sorted(path.name for path in (PACKAGE / "families").iterdir() if (path / "module.py").exists())

# What each room may import of ours, besides itself and `errors`.
ALLOWED = {
    "families": {"nn", "data", "metrics", "predictions"},
    "data": set(),
    "nn": set(),
    "metrics": set(),
    "decisions": {"predictions", "metrics"},
    "reporting": {"predictions", "decisions", "metrics"},
    "callbacks": {"data", "metrics", "predictions", "reporting"},
    "predictions": set(),
    "errors": set(),
}
ONLY_IN_RUNTIME = {"hydra", "omegaconf"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Dotted names a file imports, at any depth of the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}: a relative import may name a neighbour only"
            if node.level == 0:
                found.add(str(node.module))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_rules(path: Path) -> None:
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "wanamaker" and len(parts) > 1 and here != "runtime":
            assert parts[1] in {here, "errors", *ALLOWED.get(here, set())}, f"{here} may not import {name}"
            if here == "families" and parts[1] == "families" and len(parts) > 2:
                family = path.relative_to(PACKAGE / "families").parts[0]
                assert parts[2] == family, f"families never import each other: {name}"
        if here not in ("runtime", "__init__"):
            assert parts[0] not in ONLY_IN_RUNTIME, f"only the runtime knows {parts[0]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500
    assert path.stem not in {"utils", "misc", "common", "helpers"}


def test_the_runtime_knows_no_family() -> None:
    for path in (PACKAGE / "runtime").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [family for family in FAMILIES if re.search(rf"\b{family}\b", text)], path


@pytest.mark.parametrize("family", FAMILIES)
def test_family_contract(family: str) -> None:
    folder = PACKAGE / "families" / family
    assert (folder / "README.md").exists()
    modules = [
        node.name
        for node in ast.parse((folder / "module.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Module")
    ]
    assert len(modules) == 1, "exactly one LightningModule"
    text = (folder / "module.py").read_text(encoding="utf-8")
    assert not re.search(r"def \w*(batch_transfer|transfer_batch)", text), "batches know how they travel: their `to`"
    recipes = [path.stem for path in (ROOT / "configs" / "experiment").glob(f"{family}_*.yaml")]
    assert f"{family}_tiny" in recipes


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: str(path.relative_to(ROOT / "configs"))
)
def test_configuration_rules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "${now:" not in text, "the run id names folders"
    assert path.parent.name == "paths" or path.stem == "slurm" or "${oc.env:" not in text, "environment: paths only"
    content = yaml.safe_load(text) or {}
    if "defaults" in content and path.stem not in ("default", "all") and path.parent.name != "hydra":
        assert content["defaults"][-1] == "_self_", "_self_ is last and always written"
    if path.parent.name == "experiment":
        lines = text.splitlines()
        assert lines[0] == "# @package _global_"
        assert lines[1].startswith("# "), "the menu shows the second line"
        inherited = [entry for entry in content.get("defaults", []) if isinstance(entry, str) and entry != "_self_"]
        assert len(inherited) <= 1, "a variant inherits exactly one recipe"
