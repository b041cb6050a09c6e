"""Render conversations with the chat templates of published models, and work around the templates' restrictions."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyprag.errors import ModelError, is_out_of_memory
from dyprag.model.files import EMBEDDED, first_line, model_folder, read_json
from dyprag.model.thinking import MARKS, closed, without_thoughts

# The date given to templates. Prompts and stored answers must not depend on the current date. This date is the default
# in Llama's own templates.
TODAY = datetime(2024, 7, 26)
# Variables that turn thinking off: in Qwen, GLM and SmolLM; in DeepSeek and Granite; in Seed.
NO_THOUGHTS = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}
_VARIES = re.compile(
    "|".join(["strftime_now", *(rf"\b{name}\b" for name in NO_THOUGHTS), *(re.escape(begins) for begins, _ in MARKS)])
)

Message = dict[str, Any]


def render(tokenizer: Any, turns: Sequence[tuple[str, str]], user: str, system: str = "") -> str:
    """Render a conversation with the model's chat template, up to the start of the assistant's next message.

    If the template rejects or drops the system message, its text is put before the first user message, as is usual
    for Gemma. If the template expects messages as lists of parts, it gets them in this form. If the template opens a
    thought, the thought is closed. The date is always the same.

    Args:
        tokenizer: a tokenizer with a chat template.
        turns: (user, assistant) messages before the last user message; thoughts in the assistant's are removed.
        user: the last user message.
        system: the system message, if any.

    Raises:
        ModelError: the template fails.
    """
    turns = [(question, without_thoughts(answer)) for question, answer in turns]
    failure: Exception | None = None
    rendered: list[str] = []
    for messages in _forms(turns, user, system):
        try:
            text = _apply(tokenizer, messages)
        except Exception as error:  # templates are programs and can raise anything
            if is_out_of_memory(error):
                raise
            failure = failure or error
            continue
        rendered.append(text)
        if all(message in text for message in _texts(turns, user, system)):
            break
    else:
        if not rendered:
            assert failure is not None
            raise _unusable(tokenizer, f"fails ({first_line(failure)})") from failure
    text = rendered[-1] if all(message in rendered[-1] for message in _texts(turns, user, system)) else rendered[0]
    last = text.rfind(user.strip())
    return closed(text, text[last + len(user.strip()) :] if last >= 0 else text)


def check_template(tokenizer: Any) -> None:
    """Check that the chat template, if the tokenizer has one, can ask a question.

    Raises:
        ModelError: the template fails, or leaves out the user's message.
    """
    if tokenizer.chat_template and "a question" not in render(tokenizer, [], "a question"):
        raise _unusable(tokenizer, "leaves out the user's message")


def turn_ends(tokenizer: Any) -> list[int]:
    """Return the control token that the chat template writes after an assistant's message, if there is one.

    Some models end their answers with this token although their configuration names another end token.
    """
    if not getattr(tokenizer, "chat_template", None):
        return []
    try:
        text = _apply(tokenizer, [_message("user", "one"), _message("assistant", "twothree")], answering=False)
    except Exception:  # rendering a prompt reports the error
        return []
    _, answer, ending = text.rpartition("twothree")
    ids = tokenizer(ending.strip(), add_special_tokens=False)["input_ids"][:1] if answer else []
    token = tokenizer.added_tokens_decoder.get(ids[0]) if ids else None
    return ids if token is not None and len(str(token)) > 1 else []


def template_version(name: str) -> int:
    """Return the version of a model's chat rendering, which is part of its artifacts' keys.

    It is 1 if the template thinks or prints the date, because this package then renders it differently from
    transformers, and otherwise 0.
    """
    return 0 if name in EMBEDDED else int(bool(_VARIES.search(_template(model_folder(name)))))


@lru_cache(maxsize=8)
def _template(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    for name in ("tokenizer_config.json", "chat_template.json"):
        if template := read_json(folder / name).get("chat_template"):
            return str(template)
    return ""


def _forms(turns: Sequence[tuple[str, str]], user: str, system: str) -> list[list[Message]]:
    """Return a conversation in the forms that templates may expect, the usual form first."""
    pairs = [_message(role, text) for u, a in turns for role, text in (("user", u), ("assistant", a))]
    plain = [*pairs, _message("user", user)]
    forms = [[_message("system", system), *plain] if system else plain]
    if system:
        forms.append([_message("user", f"{system}\n\n{plain[0]['content']}"), *plain[1:]])
    in_parts = [
        [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in form] for form in forms
    ]
    return forms + in_parts


def _texts(turns: Sequence[tuple[str, str]], user: str, system: str) -> list[str]:
    return [text.strip() for text in (system, *(text for turn in turns for text in turn), user)]


def _message(role: str, text: str) -> Message:
    return {"role": role, "content": text}


def _apply(tokenizer: Any, messages: list[Message], answering: bool = True) -> str:
    # some templates write tokens that the tokenizer does not define
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    absent = {name: "" for name in names if getattr(tokenizer, name, None) is None}
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=answering, chat_template=_chosen(tokenizer.chat_template),
        **NO_THOUGHTS, **absent,
    )  # fmt: skip


def _chosen(template: str | Mapping[str, str]) -> str:
    """Return the template for plain conversations, of several named ones if there are, with a fixed date."""
    chosen = template if isinstance(template, str) else template.get("default") or template[min(template)]
    return _DATE_MACRO + chosen if "strftime_now" in chosen else chosen


def _date_macro() -> str:
    """Return a macro to put before a template so that its date is TODAY; transformers ignores a function argument."""
    codes = [f"{dash}{code}" for dash in ("-", "") for code in "aAbBcCdDeFgGhHIjmMnprRSTuUVwWxXyYzZ"]
    values = {f"%{code}": TODAY.strftime(f"%{code}") for code in codes} | {"%f": "000000", "%%": "%"}
    filters = "".join(f" | replace({code!r}, {text!r})" for code, text in values.items())
    return f"{{% macro strftime_now(format) %}}{{{{ format{filters} }}}}{{% endmacro %}}{{{{ '' }}}}"


_DATE_MACRO = _date_macro()


def _unusable(tokenizer: Any, reason: str) -> ModelError:
    return ModelError(
        f"model {tokenizer.name_or_path!r}", f"its chat template {reason}",
        "Correct chat_template.jinja, or chat_template in tokenizer_config.json; without one, plain text is used.",
    )  # fmt: skip
