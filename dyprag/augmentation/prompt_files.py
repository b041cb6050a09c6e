"""Prompts as files: YAML with a version and the messages' texts, in which named variables stand as $name.

Text of documents is data: it goes in with control tokens broken up, and cannot close the tags it stands between.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Template
from typing import Any

import yaml

from dyprag.augmentation.products import Message
from dyprag.corpora.documents import content_key
from dyprag.errors import ConfigError

BUILT_IN = Path(__file__).parent / "prompts"
VARIABLES = {
    "rewrites": {"document", "count", "notes"},
    "qa_pairs": {"document", "count", "notes"},
    "repair": {"error"},
    "verify": {"document", "question"},
}
# The forms that control tokens of chat templates have: an endpoint's tokenizer is not known.
_CONTROL = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])|<(?=<SYS>>|</SYS>>)"
    r"|<(?=/?(?:s|bos|eos|unk|pad|start_of_turn|end_of_turn|think|tool_call|tool_response|document)>)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PromptFile:
    """One prompt: its version, the texts of its messages, and a digest of all that enters a product's key."""

    name: str
    version: int
    system: str
    user: str
    digest: str

    def messages(self, **values: object) -> tuple[Message, ...]:
        """The messages with the variables filled in; every value is data."""
        texts = {name: neutral(str(value)) for name, value in values.items()}
        filled = [("system", self.system), ("user", self.user)]
        return tuple(
            {"role": role, "content": Template(text).substitute(texts).strip()} for role, text in filled if text
        )


@lru_cache
def prompt_file(name: str, folder: str | None = None) -> PromptFile:
    """The prompt of this name, from the user's folder where it has one, else the built-in.

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
        raise ConfigError(f"prompt {path}", f"it cannot be read ({error})", "Give a YAML file.") from error
    if not isinstance(values, dict) or not isinstance(values.get("version"), int) or not values.get("user"):
        raise ConfigError(f"prompt {path}", "it lacks 'version' (a number) or 'user' (a text)", f"See {BUILT_IN}.")
    system, user = str(values.get("system") or ""), str(values["user"])
    if not Template(system).is_valid() or not Template(user).is_valid():
        raise ConfigError(f"prompt {path}", "a $ does not start a variable", "Write $$ for a literal dollar sign.")
    found = {*Template(system).get_identifiers(), *Template(user).get_identifiers()}
    if wrong := VARIABLES[name] ^ found:
        names = ", ".join(f"${variable}" for variable in sorted(wrong))
        raise ConfigError(f"prompt {path}", f"{names} is missing or unknown", f"See {BUILT_IN / path.name}.")
    digest = content_key("prompt", [str(values["version"]), system, user])
    return PromptFile(name, values["version"], system, user, digest)


def neutral(text: str) -> str:
    """A text in which no control token of a chat template, nor a tag of ours, can be read as one; halves of surrogate
    pairs, which no request can carry, become '?'."""
    text = text.encode("utf-8", "replace").decode()
    return _CONTROL.sub(lambda match: f"{match.group()} " if match.group() in "<[" else f" {match.group()}", text)
