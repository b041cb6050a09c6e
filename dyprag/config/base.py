"""The base class of all configuration sections: fields are marked as basic or expert, and unknown keys are errors."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LEVEL = "x-level"  # the JSON schema key that stores a field's level
PRESET: Any = object()  # used instead of a default if the model's preset provides the value


class Section(BaseModel):
    """A group of settings. Unknown keys are errors. Null means 'not given', because forms send null for empty fields.

    The settings listed in `immaterial` do not affect the result and are not part of its key. Those in `added` are newer
    than 0.1.0: their defaults leave the result, and hence its key, as it was. Each field is `basic` or `expert`.
    Basic settings appear on the run form and in the output of `dyprag config`, in `form_order` if it is set,
    and otherwise in the order of their definition.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    immaterial: ClassVar[frozenset[str]] = frozenset()
    added: ClassVar[frozenset[str]] = frozenset()
    form_order: ClassVar[tuple[str, ...]] = ()
    basic: ClassVar[tuple[str, ...]] = ()  # names of the basic settings; derived from the fields' levels

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        names = tuple(name for name in cls.model_fields if level_of(cls, name) == "basic")
        if cls.form_order and set(cls.form_order) != set(names):
            raise TypeError(f"{cls.__name__}.form_order does not list the section's basic settings")
        cls.basic = cls.form_order or names

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {name: value for name, value in values.items() if value is not None}
        return values

    def material(self) -> dict[str, Any]:
        """Return the settings that affect the result, for an artifact's key."""
        default = {name for name in self.added if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=set(self.immaterial) | default)


def basic(default: Any, description: str, **bounds: Any) -> Any:
    """Declare a setting that many users change. It appears on the run form and in the output of `dyprag config`.

    Args:
        default: the default value; `PRESET` if the model's preset provides it; `...` if the setting is required.
        description: the help text of the setting.
        bounds: limits of the value, such as `ge=0`, as in pydantic's `Field`.
    """
    return _field("basic", default, description, bounds)


def expert(default: Any, description: str, **bounds: Any) -> Any:
    """Declare a setting that few users change. Only `dyprag config --all` prints it. Same arguments as `basic`."""
    return _field("expert", default, description, bounds)


def level_of(section: type[BaseModel], name: str) -> str | None:
    """Return a field's level: "basic", "expert", or None if it has no level."""
    extra = section.model_fields[name].json_schema_extra
    return str(extra[LEVEL]) if isinstance(extra, dict) and LEVEL in extra else None


def _field(level: Literal["basic", "expert"], default: Any, description: str, bounds: dict[str, Any]) -> Any:
    if default is PRESET:
        default, description = None, f"{description} Empty: the model preset's value."
    return Field(default, description=description, json_schema_extra={LEVEL: level}, **bounds)
