"""Layers: which package may import which, what is never done, and what a light import must not load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("dyprag", "storage", "tasks", "flows", "cli")


def trees(package: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules of a package, by path, as syntax trees; those of a folder that dyprag/ links to are its own."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if path.relative_to(ROOT).parts[1] in PACKAGES:
            continue
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """Full names of the modules that a module imports, inside functions too; ours are all absolute."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("dyprag", {"prefect", "duckdb", "dyprag.flows", "dyprag.tasks", "dyprag.storage", "dyprag.cli"}),
        ("storage", {"prefect", "torch", "dyprag.tasks", "dyprag.flows", "dyprag.cli", "dyprag.augmentation"}),
        ("tasks", {"dyprag.flows", "dyprag.cli"}),
        ("flows", {"dyprag.cli"}),
        ("cli", {"dyprag.storage"}),
    ],
)
def test_a_package_imports_nothing_from_above(package: str, forbidden: set[str]):
    modules = list(trees(package))
    assert modules
    wrong = [
        (path, name)
        for path, tree in modules
        for name in imported(tree)
        if any(f"{name}.".startswith(f"{above}.") for above in forbidden)
    ]
    assert wrong == []


# What a flow may import of the method: settings, documents, errors, and what processes and signals have in common.
OF_THE_METHOD = ("dyprag.config", "dyprag.corpora.documents", "dyprag.errors", "dyprag.runtime")


def test_a_flow_leaves_the_method_to_its_tasks():
    allowed = ("dyprag.flows", "dyprag.tasks", "dyprag.storage", *OF_THE_METHOD)
    wrong = [
        (path, name)
        for path, tree in trees("flows")
        for name in imported(tree)
        if name.startswith("dyprag.") and not name.startswith(allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["adapters", "augmentation", "corpora", "methods", "model", "translators"])
def test_what_makes_adapters_and_answers_does_not_know_how_they_are_measured(package: str):
    modules = list(trees(f"dyprag/{package}"))
    assert modules
    above = {(path, name) for path, tree in modules for name in imported(tree) if name.startswith("dyprag.evaluation")}
    assert above == set()


def test_nothing_is_imported_by_the_name_of_a_folder_that_an_installed_dyprag_does_not_have():
    folders = {"cli", "flows", "storage", "tasks"}
    modules = [module for package in (*PACKAGES, "tests", "benchmarks", "docs") for module in trees(package)]
    wrong = [(path, name) for path, tree in modules for name in imported(tree) if name.split(".")[0] in folders]
    assert wrong == []
    assert all((ROOT / "dyprag" / folder).resolve() == ROOT / folder for folder in folders)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_that_could_run_foreign_code_is_used(package: str):
    wrong = []
    for path, tree in trees(package):
        wrong += [(path, name) for name in imported(tree) if name in {"pickle", "cloudpickle", "dill", "torch.load"}]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                wrong += [(path, "torch.load")] if given.get("weights_only") != "True" else []
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and ast.unparse(node.value) != "False":
                wrong.append((path, "trust_remote_code"))
            if isinstance(node, ast.Constant) and node.value == "trust_remote_code":
                wrong.append((path, "trust_remote_code"))
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("dyprag.config", ["torch", "transformers", "prefect"]),
        ("dyprag.tasks.planning.plan", ["torch", "transformers"]),
        ("dyprag.model.base", ["prefect", "torch", "transformers"]),
        ("dyprag.tasks.answering", ["prefect"]),
        ("dyprag.flows.pipeline", ["torch", "transformers", "peft", "openai", "matplotlib"]),
        ("dyprag.tasks.workspace, dyprag.tasks.contents, dyprag.tasks.checks", ["prefect", "torch", "transformers"]),
        ("dyprag.cli.main", ["pydantic", "duckdb", "dyprag.config", "dyprag.corpora"]),
        ("dyprag.cli.main, dyprag.storage.catalogue", ["prefect", "torch", "transformers", "pyarrow", "numpy"]),
    ],
)
def test_a_light_import_stays_light(module: str, heavy: list[str]):
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
