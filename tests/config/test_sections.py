"""Sections: each setting is basic or expert, which decides where it is shown."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from dyprag import config as package
from dyprag.config import PipelineConfig, Section
from dyprag.config.base import LEVEL, PRESET, basic, expert, level_of
from dyprag.config.form import Form

SECTIONS = [kind for name in package.__all__ if isinstance(kind := getattr(package, name), type)]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_basic_or_expert(section: type[Section]):
    assert issubclass(section, BaseModel)
    for name, field in section.model_fields.items():
        assert level_of(section, name) in ("basic", "expert"), f"{section.__name__}.{name}"
        assert field.description, f"{section.__name__}.{name}"


def test_basic_settings_are_in_definition_order_or_form_order():
    class Lamp(Section):
        height: int = basic(24, "Its height in metres.")
        keeper: str | None = expert(PRESET, "Who keeps it.")
        oil: str = basic("rape", "What it burns.")

    class Harbour(Lamp):
        form_order = ("oil", "height")

    assert Lamp.basic == ("height", "oil")
    assert Harbour.basic == ("oil", "height")
    assert Lamp().keeper is None
    assert Lamp.model_fields["keeper"].description == "Who keeps it. Empty: the model preset's value."
    with pytest.raises(TypeError, match="form_order"):
        type("Pier", (Lamp,), {"form_order": ("oil",)})


def test_levels_are_not_part_of_a_forms_schema():
    def keys(schema: object) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema
        for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from keys(inner)

    assert LEVEL in set(keys(PipelineConfig.model_json_schema()))
    assert LEVEL not in set(keys(Form(*PipelineConfig.basic).json_schema()))
