"""Prompts as YAML files with a version and the texts of the messages, which contain variables as $name.

Documents are untrusted data: control tokens in them are broken up, and they cannot close the tags around them.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

import yaml

from dyprag.corpora.documents import content_key
from dyprag.corpora.products import Message
from dyprag.corpora.text.forms import encodable
from dyprag.errors import ConfigError

BUILT_IN = Path(__file__).parent / "prompts"
VARIABLES = {
    "rewrites": {"document", "count", "notes"},
    "qa_pairs": {"document", "count", "notes"},
    "repair": {"error"},
    "verify": {"document", "question"},
}
# Control tokens of common chat templates, because an endpoint's tokenizer is unknown.
_CONTROL = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])|<(?=<SYS>>|</SYS>>)"
    r"|<(?=/?(?:s|bos|eos|unk|pad|start_of_turn|end_of_turn|think|tool_call|tool_response|document)>)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PromptFile:
    """A prompt: its version, the texts of its messages, and a digest for a product's key."""

    name: str
    version: int
    system: str
    user: str
    digest: str

    def messages(self, **values: object) -> tuple[Message, ...]:
        """Fill in the variables. Values are untrusted data and are neutralised."""
        texts = {name: neutral(str(value)) for name, value in values.items()}
        filled = [("system", self.system), ("user", self.user)]
        return tuple(
            {"role": role, "content": Template(text).substitute(texts).strip()} for role, text in filled if text
        )


@lru_cache
def prompt_file(name: str, folder: str | None = None) -> PromptFile:
    """Load the prompt of this name from the user's folder, or the built-in one if the folder lacks it.

    Raises:
        ConfigError: the file cannot be read, or lacks the version, the text or a variable.
    """
    path = BUILT_IN / f"{name}.yaml"
    if folder:
        if not Path(folder).is_dir():
            raise ConfigError(
                "setting 'augment.prompts'", f"there is no folder {folder}", f"Copy {BUILT_IN} and change the copy."
            )
        path = own if (own := Path(folder) / path.name).exists() else path
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"prompt {path}", f"it cannot be read ({error})", "Use a valid YAML file.") from error
    if not isinstance(values, dict) or not isinstance(values.get("version"), int) or not values.get("user"):
        raise ConfigError(f"prompt {path}", "it lacks 'version' (a number) or 'user' (a text)", f"See {BUILT_IN}.")
    system, user = str(values.get("system") or ""), str(values["user"])
    if not Template(system).is_valid() or not Template(user).is_valid():
        raise ConfigError(f"prompt {path}", "a $ does not start a variable", "Write $$ for a literal dollar sign.")
    variables = {*Template(system).get_identifiers(), *Template(user).get_identifiers()}
    if wrong := VARIABLES[name] ^ variables:
        names = ", ".join(f"${variable}" for variable in sorted(wrong))
        raise ConfigError(f"prompt {path}", f"{names} is missing or unknown", f"See {BUILT_IN / path.name}.")
    digest = content_key("prompt", [str(values["version"]), system, user])
    return PromptFile(name, values["version"], system, user, digest)


def neutral(text: str) -> str:
    """Break up control tokens of chat templates and our own tags in a text, and replace lone surrogates by '?'."""
    text = encodable(text)
    return _CONTROL.sub(lambda match: f"{match.group()} " if match.group() in "<[" else f" {match.group()}", text)
