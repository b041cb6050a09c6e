"""Every `dyprag` command in the documentation is one that the program takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from documentation import PAGES, ROOT, Block, blocks
from typer.main import get_command

from dyprag.cli.main import app
from dyprag.config import PipelineConfig
from dyprag.config.files import configuration, read_file, set_override
from dyprag.config.values import from_yaml
from dyprag.errors import ConfigError

PROGRAM = re.compile(r"^(\.venv/bin/)?dyprag ")


def commands(block: Block) -> list[str]:
    """The commands of a block that start with `dyprag`, in a line each; a console's output is left out."""
    text = re.sub(r"<<'?(\w+)'?.*?^\1$", "", block.text, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
    lines = text.splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if PROGRAM.match(line)]


COMMANDS = [
    pytest.param(command, id=f"{block}: {command[:60]}")
    for block in blocks("sh", "console")
    for command in commands(block)
]


def parsed(command: str) -> dict[str, Any]:
    """What the command line makes of a command, without running it; nothing for one that only asks for help."""
    _, *words = shlex.split(re.sub(r" > \S+$", "", command), comments=True)
    group, context = get_command(app), None
    try:
        while hasattr(group, "commands"):
            context = group.make_context(group.name or "dyprag", [*words], parent=context)
            name, group, words = group.resolve_command(context, words)
        return dict(group.make_context(name, words, parent=context).params)
    except typer.Exit:
        return {}


def checked_settings(options: dict[str, Any]) -> None:
    """Read the settings that a command names, as the command does."""
    file = Path(options["config"]) if options.get("config") else None
    values = read_file(ROOT / file) if file and file.parts[0] == "examples" else {}
    for override in options.get("set_") or ():
        set_override(values, override)
    configuration(values)


def test_there_are_commands_in_the_pages():
    assert len(COMMANDS) > 50
    assert {param.values[0].split()[0] for param in COMMANDS} == {"dyprag", ".venv/bin/dyprag"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses_and_its_settings_exist(command: str):
    checked_settings(parsed(command))


@pytest.mark.parametrize("command", ["dyprag asks", "dyprag ask --documents x q", "dyprag run --set lora.ranks=4"])
def test_a_wrong_command_would_be_noticed(command: str):
    with pytest.raises(Exception, match=r"asks|--documents|lora\.ranks"):
        checked_settings(parsed(command))


def settings_in_pages() -> list[Any]:
    """The blocks of YAML that hold settings, also those that a shell command writes into a file."""
    texts = [(str(block), block.text) for block in blocks("yaml")]
    for block in blocks("sh"):
        texts += [
            (str(block), text) for text in re.findall(r"> \S+\.yaml <<'EOF'\n(.*?)^EOF$", block.text, re.M | re.S)
        ]
    read = [(name, from_yaml(text)) for name, text in texts if not text.startswith(" ")]
    return [pytest.param(values, id=name) for name, values in read if {*values} <= {*PipelineConfig.model_fields}]


@pytest.mark.parametrize("values", settings_in_pages())
def test_settings_in_yaml_are_valid(values: dict[str, Any]):
    configuration(values)


def test_settings_that_are_named_in_a_page_exist():
    keys = re.compile(rf"`((?:{'|'.join(PipelineConfig.model_fields)})(?:\.[a-z_]+)+)(?:=[^`]*)?`")
    for page in PAGES:
        for key in keys.findall(page.read_text(encoding="utf-8")):
            value: Any = PipelineConfig()
            for name in key.split("."):
                assert name in type(value).model_fields, f"{page}: {key}"
                value = getattr(value, name)


def test_a_setting_that_does_not_exist_is_an_error():
    with pytest.raises(ConfigError, match="no such setting"):
        configuration({"lora": {"ranks": 4}})
