"""The generated reference lists every setting, command and table."""

import re
from collections.abc import Iterator

import pytest
from documentation import DOCS, documentation_script
from pydantic import BaseModel
from typer.main import get_command

from dyprag.cli.main import app
from dyprag.config import PRESETS, PipelineConfig

reference = documentation_script("reference")


def single_settings(section: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from single_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_setting_is_listed_once_with_its_meaning():
    page = reference.configuration_page().split("## Presets")[0]
    row = r"^\| (?:\*\*)?`([\w.\[\]{}]+)`(?:\*\*)?(?: †)? \| (.+) \| (.+) \| (.{10,}) \|$"
    keys = [key for key, *_ in re.findall(row, page, re.MULTILINE)]
    assert len(keys) == len(set(keys))
    assert set(single_settings(PipelineConfig())) <= set(keys)
    assert {"experiment.sets[].name", "augment.api.prices{}.input"} <= set(keys)
    assert "**`lora.rank`**" in page
    assert "`model.device` †" in page


def test_every_preset_value_is_listed():
    page = reference.configuration_page()
    head, rows = page.split("## Presets")[1].split("| :-- ", 1)
    assert re.findall(r"`([\w-]+)` \|", head) == [*PRESETS]
    for values in PRESETS.values():
        for section, settings in values.items():
            for name, value in settings.items():
                (row,) = re.findall(rf"^\| `{section}\.{name}` \|.*$", rows, re.MULTILINE)
                assert f"`{value}`" in row


def test_every_command_and_option_is_listed():
    page = reference.command_line_page()
    group = get_command(app)
    names = []
    for name, command in group.commands.items():
        names += [f"{name} {inner}" for inner in command.commands] if hasattr(command, "commands") else [name]
    assert re.findall(r"^## dyprag (.+)$", page, re.MULTILINE) == names
    for name in names:
        section = page.split(f"## dyprag {name}\n")[1].split("\n## ")[0]
        command = reference.commands()[name]
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
        assert [option for option in options if f"`{option}`" not in section] == []


@pytest.mark.parametrize("page", ["reference/python.md", "reference/catalogue.md"])
def test_generated_parts_are_filled_in(page: str):
    written = (DOCS / page).read_text(encoding="utf-8")
    filled = reference.filled(written)
    assert "<!-- generated" in written
    assert "<!-- generated" not in filled
    assert len(filled) > 2 * len(written) or "| `failures` | view | `document_id` varchar" in filled


def test_a_part_that_does_not_exist_is_an_error():
    with pytest.raises(AttributeError):
        reference.filled("<!-- generated: api:dyprag.serving.assistant.Nothing -->")
