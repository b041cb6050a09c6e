"""Sections: each setting is marked as basic or expert, and the marks decide what is shown."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from dyprag import config as package
from dyprag.config import PipelineConfig, Section
from dyprag.config.base import LEVEL, PRESET, basic, expert, level_of
from dyprag.config.form import Form

SECTIONS = [kind for name in package.__all__ if isinstance(kind := getattr(package, name), type)]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_marked(section: type[Section]):
    assert issubclass(section, BaseModel)
    for name, field in section.model_fields.items():
        assert level_of(section, name) in ("basic", "expert"), f"{section.__name__}.{name}"
        assert field.description, f"{section.__name__}.{name}"


def test_basic_settings_come_in_the_order_of_their_definition_or_in_that_of_the_form():
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


def test_marks_are_not_sent_to_a_form():
    def keys(schema: object) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema
        for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            yield from keys(inner)

    assert LEVEL in set(keys(PipelineConfig.model_json_schema()))
    assert LEVEL not in set(keys(Form(*PipelineConfig.basic).json_schema()))
