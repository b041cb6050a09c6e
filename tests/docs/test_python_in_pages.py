"""Every block of Python in the documentation compiles, what it imports exists, and the runnable ones run."""

import ast
import importlib
from pathlib import Path

import pytest
from documentation import Block, blocks

import dyprag.serving.assistant as assistant

PYTHON = [pytest.param(block, id=str(block)) for block in blocks("python")]
RUNNABLE = [pytest.param(block, id=str(block)) for block in blocks("python") if block.note == "runnable"]


@pytest.mark.parametrize("block", PYTHON)
def test_a_block_compiles_and_its_imports_exist(block: Block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing}"


def test_some_blocks_are_runnable():
    assert {"README.md", "docs/index.md"} <= {param.values[0].page for param in RUNNABLE}


@pytest.mark.parametrize("block", RUNNABLE)
def test_a_runnable_block_runs(
    block: Block, tiny_model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    load = assistant.load
    monkeypatch.setattr(assistant, "load", lambda model: load(tiny_model, str(folder), "cpu"))
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), "exec"), {"__name__": "page"})
    assert capsys.readouterr().out
