"""Chat templates as published models have them: a conversation becomes a prompt, whatever the template insists on."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyprag.errors import ModelError, is_out_of_memory
from dyprag.model.files import EMBEDDED, first_line, model_folder, read_json
from dyprag.model.thinking import MARKS, closed, without_thoughts

# The day that templates are told: prompts, and what is kept of their answers, must not depend on the real one. It is
# the one that Llama's own templates fall back on.
TODAY = datetime(2024, 7, 26)
# How templates are told not to think: Qwen, GLM and SmolLM; DeepSeek and Granite; Seed.
NO_THOUGHTS = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}
_VARIES = re.compile(
    "|".join(["strftime_now", *(rf"\b{name}\b" for name in NO_THOUGHTS), *(re.escape(begins) for begins, _ in MARKS)])
)

Message = dict[str, Any]


def render(tokenizer: Any, turns: Sequence[tuple[str, str]], user: str, system: str = "") -> str:
    """A conversation as the model's chat template writes it, up to where the assistant's next words begin.

    A template that refuses or leaves out a system message gets its words at the head of the first user message, as
    Gemma's users do it, and one that reads messages in parts gets those. Where the template begins a thought, the
    thought is ended. The day is always the same.

    Args:
        turns: (user, assistant) messages before the last user message; thoughts in the assistant's are left out.

    Raises:
        ModelError: the template fails.
    """
    turns = [(asked, without_thoughts(said)) for asked, said in turns]
    failure: Exception | None = None
    rendered: list[str] = []
    for messages in _forms(turns, user, system):
        try:
            text = _apply(tokenizer, messages)
        except Exception as error:  # templates are programs: any kind can come out
            if is_out_of_memory(error):
                raise
            failure = failure or error
            continue
        rendered.append(text)
        if all(words in text for words in _words(turns, user, system)):
            break
    else:
        if not rendered:
            assert failure is not None
            raise _failed(tokenizer, failure) from failure
    text = rendered[-1] if all(words in rendered[-1] for words in _words(turns, user, system)) else rendered[0]
    last = text.rfind(user.strip())
    return closed(text, text[last + len(user.strip()) :] if last >= 0 else text)


def turn_ends(tokenizer: Any) -> list[int]:
    """The control token that the chat template sets behind an assistant's words, if there is one: some models end
    their answers with it, and name another as their end token."""
    if not getattr(tokenizer, "chat_template", None):
        return []
    try:
        text = _apply(tokenizer, [_message("user", "one"), _message("assistant", "twothree")], answering=False)
    except Exception:  # it is told where a prompt is made
        return []
    _, said, behind = text.rpartition("twothree")
    ids = tokenizer(behind.strip(), add_special_tokens=False)["input_ids"][:1] if said else []
    token = tokenizer.added_tokens_decoder.get(ids[0]) if ids else None
    return ids if token is not None and len(str(token)) > 1 else []


def template_version(name: str) -> int:
    """Which rendering of a model's chat template its keys name: 1 where the template thinks or prints the date, and
    this package has it do otherwise than transformers, else 0."""
    return 0 if name in EMBEDDED else int(bool(_VARIES.search(_template(model_folder(name)))))


@lru_cache(maxsize=8)
def _template(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    for name in ("tokenizer_config.json", "chat_template.json"):
        if told := read_json(folder / name).get("chat_template"):
            return str(told)
    return ""


def _forms(turns: Sequence[tuple[str, str]], user: str, system: str) -> list[list[Message]]:
    """A conversation in the ways that templates may want it, the usual one first."""
    pairs = [_message(role, text) for u, a in turns for role, text in (("user", u), ("assistant", a))]
    plain = [*pairs, _message("user", user)]
    forms = [[_message("system", system), *plain] if system else plain]
    if system:
        forms.append([_message("user", f"{system}\n\n{plain[0]['content']}"), *plain[1:]])
    parts = [[{**one, "content": [{"type": "text", "text": one["content"]}]} for one in form] for form in forms]
    return forms + parts


def _words(turns: Sequence[tuple[str, str]], user: str, system: str) -> list[str]:
    return [words.strip() for words in (system, *(text for turn in turns for text in turn), user)]


def _message(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _apply(tokenizer: Any, messages: list[Message], answering: bool = True) -> str:
    # some templates write tokens that the tokenizer has not
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    absent = {name: "" for name in names if getattr(tokenizer, name, None) is None}
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=answering, chat_template=_chosen(tokenizer.chat_template),
        **NO_THOUGHTS, **absent,
    )  # fmt: skip


def _chosen(template: str | Mapping[str, str]) -> str:
    """The template for plain conversations, of those that a tokenizer may have by name, with its day set."""
    chosen = template if isinstance(template, str) else template.get("default") or template[min(template)]
    return _DAY + chosen if "strftime_now" in chosen else chosen


def _day() -> str:
    """What stands before a template and gives it TODAY: a function handed to it would not get there."""
    codes = [f"{dash}{code}" for dash in ("-", "") for code in "aAbBcCdDeFgGhHIjmMnprRSTuUVwWxXyYzZ"]
    told = {f"%{code}": TODAY.strftime(f"%{code}") for code in codes} | {"%f": "000000", "%%": "%"}
    filters = "".join(f" | replace({code!r}, {text!r})" for code, text in told.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ '' }}}}"


_DAY = _day()


def _failed(tokenizer: Any, error: Exception) -> ModelError:
    return ModelError(
        f"model {tokenizer.name_or_path!r}", f"its chat template fails ({first_line(error)})",
        "Correct chat_template.jinja, or chat_template in tokenizer_config.json; without one, plain text is used.",
    )  # fmt: skip
