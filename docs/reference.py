"""Write the reference pages from the code when the site is built: a hook of mkdocs (mkdocs.yml names this file).

Whole pages are made for the configuration, the command line and the packaged translator's model card. In other pages a
line `<!-- generated: NAME -->` is replaced by what one of the `PARTS` makes. `python docs/reference.py PAGE` prints a
page, such as reference/configuration.md.
"""

import ast
import importlib
import inspect
import re
import sys
import tempfile
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dyprag.config import PRESETS, PipelineConfig

ROOT = Path(__file__).resolve().parents[1]
MODEL_CARD = ROOT / "dyprag" / "translators" / "smollm2-135m" / "README.md"
GENERATED = re.compile(r"^<!-- generated: ([\w.:-]+) -->$", re.MULTILINE)


# --- configuration ---------------------------------------------------------------------------------------------------


def settings(section: type[BaseModel] = PipelineConfig, prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """Every setting as its key (`lora.rank`, or `experiment.sets[].name` in a list), its section and its name there."""
    for name, field in section.model_fields.items():
        key = f"{prefix}{name}"
        inner, mark = _inner_section(field.annotation)
        if inner is None or mark:
            yield key, section, name
        if inner is not None:
            yield from settings(inner, f"{key}{mark}.")


def configuration_page() -> str:
    """The page of all settings, a table for each section."""
    groups: dict[str, list[str]] = {}
    headings: dict[str, str] = {}
    for key, section, name in settings():
        group = key.rpartition(".")[0]
        groups.setdefault(group, []).append(_setting_row(key, section, name))
        headings.setdefault(group, inspect.getdoc(section) or "")
    parts = [
        "# Configuration",
        "This page is generated from the code. All settings form one tree, which is the same on the command line "
        "(`--set lora.rank=8`), in a YAML or TOML file (`--config mine.yaml`) and on the form of a run in Prefect's "
        "UI. An unknown key is an error.\n\n"
        "**Bold** settings are the basic ones: `dyprag config` prints these and `dyprag config --all` prints all. "
        "A default written as *preset* comes from the model's preset; `preset` chooses another one. "
        "The values of each preset stand [at the end](#presets). "
        "A setting marked † does not enter an artifact's key: it does not change the result, or what it names counts "
        "by its content instead.",
    ]
    for group, rows in groups.items():
        table = "\n".join(["| Setting | Type | Default | Meaning |", "| :-- | :-- | :-- | :-- |", *rows])
        parts.append(f"## {group or 'Top level'}\n\n{headings[group]}\n\n{table}")
    return "\n\n".join([*parts, _presets()]) + "\n"


def _setting_row(key: str, section: type[BaseModel], name: str) -> str:
    field = section.model_fields[name]
    default = "*required*" if field.is_required() else _default(section, name)
    shown = f"**`{key}`**" if name in getattr(section, "basic", ()) else f"`{key}`"
    mark = " †" if name in getattr(section, "immaterial", ()) else ""
    return f"| {shown}{mark} | {_cell(_kind(field.annotation))} | {default} | {_cell(field.description or '')} |"


def _default(section: type[BaseModel], name: str) -> str:
    field = section.model_fields[name]
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return "*preset*" if "preset's value" in (field.description or "") else "empty"
    shown = list(value) if isinstance(value, tuple) else value
    return _cell(f"`{shown}`")


def _presets() -> str:
    keys = dict.fromkeys(f"{section}.{name}" for p in PRESETS.values() for section in p for name in p[section])
    rows = []
    for key in keys:
        section, _, name = key.partition(".")
        values = [preset.get(section, {}).get(name) for preset in PRESETS.values()]
        rows.append(f"| `{key}` | " + " | ".join("empty" if v is None else f"`{v}`" for v in values) + " |")
    head = f"| Setting | {' | '.join(f'`{name}`' for name in PRESETS)} |"
    text = (
        "`preset: auto` takes the model's own preset where it has one and the paper's otherwise. `paper` holds the "
        "values of the paper (§4.1); `official` holds what the authors' code does where it differs."
    )
    return "\n".join(["## Presets", "", text, "", head, "| :-- " * (len(PRESETS) + 1) + "|", *rows])


def _inner_section(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The section that a setting holds, and how its place in a list or map is written in a key."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    marks = {tuple: "[]", list: "[]", dict: "{}"}
    for inner in get_args(annotation) if get_origin(annotation) in marks else ():
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner, marks[get_origin(annotation)]
    return None, ""


def _kind(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in arguments if part is not type(None))
    if origin in (tuple, list):
        several = [part for part in arguments if part is not Ellipsis]
        return f"list of {', '.join(_kind(part) for part in several)}"
    if origin is dict:
        return f"map to {_kind(arguments[1])}"
    words = {str: "text", int: "integer", float: "number", bool: "`true` or `false`", Any: "anything"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))


# --- command line ----------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Every command by its full name, such as `catalogue rebuild`."""
    from typer.main import get_command

    from dyprag.cli.main import app

    def below(group: Any, before: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, f"{before}{name} ")
            else:
                yield f"{before}{name}", command

    return dict(below(get_command(app), ""))


def command_line_page() -> str:
    """The page of all commands, with their arguments and options; those that most of them share stand first."""
    known = commands()
    rows = {name: [_option_row(p) for p in command.params if not p.hidden] for name, command in known.items()}
    uses = Counter(row for own in rows.values() for row in own)
    shared = [row for row, count in uses.items() if count > 3]
    head = ["| Argument or option | Meaning |", "| :-- | :-- |"]
    parts = [
        "# Command line",
        "This page is generated from the code; `dyprag COMMAND --help` prints the same. "
        "A command that names no corpus takes the one that was ingested last into the store. "
        "[End states and exit codes](end-states.md) lists how a command ends.",
        "## Shared options",
        "`dyprag --version` prints the version. Most commands take some of these options:",
        "\n".join([*head, *shared]),
    ]
    for name, command in known.items():
        own = [row for row in rows[name] if row not in shared]
        taken = "; ".join(row.split(" | ")[0].removeprefix("| ") for row in rows[name] if row in shared)
        parts += [f"## dyprag {name}", inspect.cleandoc(command.help or "")]
        parts += ["\n".join([*head, *own])] if own else []
        parts += [f"Shared options: {taken}."] if taken else []
    return "\n\n".join(parts) + "\n"


def _option_row(parameter: Any) -> str:
    value = getattr(parameter, "metavar", None) or (parameter.name or "").upper()
    if parameter.param_type_name == "argument":
        shown = f"`{value}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
        shown = names if parameter.is_flag else f"{names} `{value.rstrip('_')}`"
    notes = ["Required."] if parameter.required else []
    notes += ["Repeatable."] if parameter.multiple and "epeatable" not in (parameter.help or "") else []
    notes += [f"Read from `${parameter.envvar}`."] if parameter.envvar else []
    return f"| {shown} | {_cell(' '.join([parameter.help or '', *notes]))} |"


# --- parts of other pages --------------------------------------------------------------------------------------------


def catalogue_tables() -> str:
    """The columns of every table and view, as a fresh catalogue has them."""
    import duckdb

    from dyprag.storage.artifacts import Store
    from dyprag.storage.catalogue import Catalogue

    query = (
        "SELECT c.table_name, c.column_name, c.data_type, t.table_type = 'VIEW' AS is_view "
        "FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) "
        "ORDER BY is_view, c.table_name, c.ordinal_position"
    )
    with tempfile.TemporaryDirectory() as folder:
        catalogue = Catalogue(Store(folder))
        catalogue.prepare()
        with duckdb.connect(str(catalogue.path), read_only=True) as connection:
            columns = connection.execute(query).fetchall()
    tables: dict[tuple[str, bool], list[str]] = {}
    for table, column, kind, is_view in columns:
        tables.setdefault((table, is_view), []).append(f"`{column}` {kind.lower()}")
    rows = [f"| `{name}` | {'view' if view else 'table'} | {', '.join(t)} |" for (name, view), t in tables.items()]
    return "\n".join(["| Name | | Columns |", "| :-- | :-- | :-- |", *rows])


def api_entry(path: str) -> str:
    """A class or function of the package: its signature and docstring, and those of a class's public methods."""
    module, _, name = path.rpartition(".")
    thing = getattr(importlib.import_module(module), name)
    node = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
    if isinstance(node, ast.FunctionDef):
        return f"### `{path}`\n\n{_function(node)}"
    assert isinstance(node, ast.ClassDef), path
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
    entries = [f"**`{name}.{part.name}`**\n\n{_function(part)}" for part in methods if ast.get_docstring(part)]
    return "\n\n".join([f"### `{path}`", _prose(ast.get_docstring(node) or ""), *_fields(node), *entries])


def _function(node: ast.FunctionDef) -> str:
    arguments = [part for part in ast.unparse(node.args).split(", ") if part != "self"]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    kind = "@property\n" if any("property" in decorator for decorator in decorators) else ""
    code = f"{kind}def {node.name}({', '.join(arguments)}){returns}"
    return f"```python\n{code}: ...\n```\n\n{_prose(ast.get_docstring(node) or '')}"


def _fields(node: ast.ClassDef) -> list[str]:
    lines = [ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign)]
    return ["```python\n" + "\n".join(lines) + "\n```"] if lines else []


def _prose(docstring: str) -> str:
    """A docstring for a page: the entries of `Args:` and `Raises:` become lists."""
    lines = []
    for line in docstring.splitlines():
        if re.fullmatch(r"(Args|Raises|Returns):", line):
            lines += ["", f"*{line}*", ""]
        elif entry := re.match(r"    (\w[\w, ]*): (.*)", line):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            lines.append(line)
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text for a cell of a table: in one line, without what Markdown or HTML would take for its own."""
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![`\w])\*(?=\.)", r"\\*", text)


# --- what mkdocs calls -----------------------------------------------------------------------------------------------


def model_card_page() -> str:
    """The packaged translator's model card, without its front matter for Hugging Face."""
    return re.sub(r"\A---\n.*?\n---\n", "", MODEL_CARD.read_text(encoding="utf-8"), flags=re.DOTALL)


PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration_page,
    "reference/command-line.md": command_line_page,
    "reference/packaged-translator.md": model_card_page,
}
PARTS: dict[str, Callable[[str], str]] = {"catalogue": lambda _: catalogue_tables(), "api": api_entry}


def filled(markdown: str) -> str:
    """A page with its generated parts."""

    def part(match: re.Match[str]) -> str:
        kind, _, argument = match[1].partition(":")
        return PARTS[kind](argument)

    return GENERATED.sub(part, markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts of a page."""
    return filled(markdown)


if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
