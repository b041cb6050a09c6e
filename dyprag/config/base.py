"""What every section of the configuration is made of: fields marked as basic or expert, and nothing unknown."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEVEL = "x-level"  # the key of a field's mark in the JSON schema
PRESET: Any = object()  # in place of a default: the model's preset has it


class Section(BaseModel):
    """A group of settings. Unknown keys are errors; nulls mean 'not given', as a form sends them.

    A section says which of its settings are `immaterial`: they do not change the result, and stay out of its key.
    Each field is `basic` or `expert`. The basic ones are on the form of a run and in what `dyprag config` prints, in
    the order of their definition or, where that differs, in `form_order`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    immaterial: ClassVar[frozenset[str]] = frozenset()
    form_order: ClassVar[tuple[str, ...]] = ()
    basic: ClassVar[tuple[str, ...]] = ()  # names of the basic settings; worked out from the marks

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        marked = tuple(name for name in cls.model_fields if level_of(cls, name) == "basic")
        if cls.form_order and set(cls.form_order) != set(marked):
            raise TypeError(f"{cls.__name__}.form_order does not list the section's basic settings")
        cls.basic = cls.form_order or marked

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values

    def material(self) -> dict[str, Any]:
        """The settings that change the result, for an artifact's key."""
        return self.model_dump(mode="json", exclude=set(self.immaterial))


def basic(default: Any, description: str, **bounds: Any) -> Any:
    """A setting that many people change: it is on the form of a run and in what `dyprag config` prints.

    Args:
        default: its default; `PRESET` where the model's preset has it; `...` where the setting must be given.
        bounds: limits of the value, as pydantic's `Field` takes them.
    """
    return _field("basic", default, description, bounds)


def expert(default: Any, description: str, **bounds: Any) -> Any:
    """A setting that few people change: `dyprag config --all` prints it. The arguments are those of `basic`."""
    return _field("expert", default, description, bounds)


def level_of(section: type[BaseModel], name: str) -> str | None:
    """How a section's field is marked: basic, expert, or not at all."""
    extra = section.model_fields[name].json_schema_extra
    return str(extra[LEVEL]) if isinstance(extra, dict) and LEVEL in extra else None


def _field(level: Literal["basic", "expert"], default: Any, description: str, bounds: dict[str, Any]) -> Any:
    if default is PRESET:
        default, description = None, f"{description} Empty: the model preset's value."
    return Field(default, description=description, json_schema_extra={LEVEL: level}, **bounds)
