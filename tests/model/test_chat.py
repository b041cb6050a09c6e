"""Published chat templates: those that reject or drop messages, think, print the date, or fail."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_models import ASKS, RAISES, TEMPLATES, TURNS, odd_model

from dyprag.errors import ModelError
from dyprag.model.base import load_model
from dyprag.model.chat import template_version, turn_ends
from dyprag.model.prompts import chat_text, question_prompt
from dyprag.model.thinking import answer, decode, without_thoughts
from dyprag.model.tokenization import load_tokenizer

ASSISTANT = "<|im_start|>assistant\n"
HISTORY = [("Who built it?", "<think>Hm.</think>Greta Olmsted.")]


def tokenizer_of(model: str, folder: Path, template: str | None) -> Any:
    return load_tokenizer(odd_model(model, folder, template=template))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_prompt_contains_the_whole_conversation_and_ends_before_the_answer(
    tiny_model: str, tmp_path: Path, kind: str
):
    tokenizer = tokenizer_of(tiny_model, tmp_path / "odd", TEMPLATES[kind])
    text = chat_text(tokenizer, "And when? ", "", HISTORY, "Be brief.")
    places = [text.index(words) for words in ("Be brief.", "Who built it?", "Greta Olmsted.", "And when?")]
    assert places == sorted(places)
    assert "Hm." not in text
    behind = text.rpartition(ASSISTANT)[2]
    assert re.fullmatch(r"(<(think|thought)>\s+</\2>\s+)?", behind), behind
    assert text.count("<|im_start|>user") == 2
    assert "nan" not in text.lower()


@pytest.mark.parametrize("kind", ["refuses-system", "alternates", "drops-system"])
def test_an_unsupported_system_message_precedes_the_first_user_message(tiny_model: str, tmp_path: Path, kind: str):
    tokenizer = tokenizer_of(tiny_model, tmp_path / "odd", TEMPLATES[kind])
    text = chat_text(tokenizer, "When?", "", HISTORY, "Be brief.")
    assert "<|im_start|>user\nBe brief.\n\nWho built it?<|im_end|>" in text


def test_a_usual_template_is_rendered_as_in_transformers(tiny_model: str, tmp_path: Path):
    tokenizer = tokenizer_of(tiny_model, tmp_path / "odd", TURNS + ASKS)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When?"}]
    usual = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert chat_text(tokenizer, "When?", "It", system="Be brief.") == usual + "It"


def test_prompts_do_not_depend_on_the_date(tiny_model: str, tmp_path: Path):
    days = {kind: tokenizer_of(tiny_model, tmp_path / kind, TEMPLATES[kind]) for kind in ("dated", "dated-in-macro")}
    assert "Today is 26 Jul 2024." in chat_text(days["dated"], "When?")
    assert chat_text(days["dated-in-macro"], "When?").startswith("26.07.24, 100%")


@pytest.mark.parametrize(("kind", "version"), [("refuses-system", 0), ("trims", 0), ("thinks", 1), ("dated", 1)])
def test_only_keys_of_models_with_different_prompts_contain_the_rendering(
    tiny_model: str, tmp_path: Path, kind: str, version: int
):
    assert template_version(str(odd_model(tiny_model, tmp_path / "odd", template=TEMPLATES[kind]))) == version
    assert template_version(tiny_model) == template_version("smollm2-135m") == 0


FAILING = {
    "syntax": TURNS + "{% if %}",
    "tags": TURNS + "{% for m in messages %}",
    "raises": RAISES % "Only tool calls are supported",
    "undefined": "{{ tools.first.name }}",
    "type": "{{ messages[0]['content'] + 1 }}",
    "filter": "{{ messages | nosuchfilter }}",
    "zero": "{{ 1 // 0 }}",
}


@pytest.mark.parametrize("template", FAILING.values(), ids=FAILING)
def test_a_failing_template_raises_one_clear_error_at_loading(tiny_model: str, tmp_path: Path, template: str):
    folder = str(odd_model(tiny_model, tmp_path / "odd", template=template))
    with pytest.raises(ModelError, match=r"its chat template fails \(.+\)\. Correct chat_template\.jinja") as caught:
        load_model(folder, "float32", "cpu")
    assert folder in str(caught.value)


def test_named_templates_and_no_template(tiny_model: str, tmp_path: Path):
    bare = tokenizer_of(tiny_model, tmp_path / "bare", None)
    assert chat_text(bare, "When?", "In", HISTORY[:0], "Be brief.") == "Be brief.\n\nWhen?\nIn"
    assert turn_ends(bare) == []
    for number, names in enumerate((("tool_use", "default"), ("rag",))):
        named = [{"name": name, "template": name + TURNS + ASKS} for name in names]
        folder = odd_model(tiny_model, tmp_path / str(number), template=None, tokenizer_config={"chat_template": named})
        assert chat_text(load_tokenizer(folder), "When?").startswith(names[-1])


def test_a_prefilled_answer_follows_the_thought(tiny_model: str, tmp_path: Path):
    tokenizer = tokenizer_of(tiny_model, tmp_path / "odd", TEMPLATES["thinks"])
    prompt = tokenizer.decode(question_prompt(tokenizer, "Who?"))
    assert prompt.endswith("<think>\n\n</think>\n\nThe answer is:")
    asked = question_prompt(tokenizer, "What does <think> do?")
    assert tokenizer.decode(asked).count("</think>") == 1


THOUGHTS = {
    "<think>\nHm.\n</think>\n\nGreta": "Greta",
    "  <think></think>Greta": "Greta",
    "<thinking>a</thinking>\n<think>b</think>Greta": "Greta",
    "Hm. It was her.\n</think>\n\nGreta": "Greta",
    "[THINK]Hm[/THINK]Greta": "Greta",
    "◁think▷Hm◁/think▷Greta": "Greta",
    "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Greta": "Greta",
    "<reflection>Hm</reflection>Greta": "Greta",
    "<|inner_prefix|>Hm<|inner_suffix|>Greta": "Greta",
    "<|channel>thought\nHm<channel|>Greta": "Greta",
    "<unused94>thought\nHm<unused95>Greta": "Greta",
    "<think>Hm</think>\n<answer>\nGreta\n</answer>": "Greta",
    "<|begin_of_thought|>Hm<|end_of_thought|>\n\n<|begin_of_solution|>\nGreta<|end_of_solution|>": "Greta",
    "Let me see.\n<think>\nHm\n</think>\nGreta": "Greta",
    "<think>Hm, and no end": "",
    '<think>{"a": 1}</think>{"rewrites": ["x"]}': '{"rewrites": ["x"]}',
    '{"rewrites": ["The tag </think> ends a <think> tag."]}': '{"rewrites": ["The tag </think> ends a <think> tag."]}',
    '```json\n{"a": "</think>"}\n```': '```json\n{"a": "</think>"}\n```',
    "Greta uses <think> tags": "Greta uses <think> tags",
    "Put it between <think> and </think>, Greta": "Put it between <think> and </think>, Greta",
    "The tag <answer>x</answer> is Greta's": "The tag <answer>x</answer> is Greta's",
    "": "",
}


@pytest.mark.parametrize(("text", "said"), THOUGHTS.items())
def test_thoughts_are_removed_from_an_answer(text: str, said: str):
    assert without_thoughts(text) == said


@given(st.lists(st.sampled_from(["<think>", "</think>", "<thought>", "Hm", "\n", "<", "th", "Greta", " "]), max_size=9))
@settings(max_examples=200)
def test_a_streamed_answer_never_retracts_text(pieces: list[str]):
    shown = ""
    text = ""
    for piece in pieces:
        text += piece
        now = answer(text, ended=False).lstrip()
        assert now.startswith(shown)
        shown = now
    assert answer(text).lstrip().startswith(shown)


def test_thoughts_between_special_tokens_are_recognised(tiny_model: str, tmp_path: Path):
    folder = odd_model(tiny_model, tmp_path / "odd")
    path = folder / "tokenizer.json"
    parts = json.loads(path.read_text())
    for index, content in ((300, "[THINK]"), (301, "[/THINK]")):
        parts["added_tokens"].append({"id": index, "content": content, "special": True, "single_word": False,
                                      "lstrip": False, "rstrip": False, "normalized": False})  # fmt: skip
        parts["model"]["vocab"] = {k: v for k, v in parts["model"]["vocab"].items() if v != index} | {content: index}
    parts["model"]["merges"] = []
    path.write_text(json.dumps(parts))
    tokenizer = load_tokenizer(folder)
    ids = tokenizer("[THINK]Hm[/THINK]Greta", add_special_tokens=False)["input_ids"]
    assert {300, 301} <= {*ids}
    assert decode(tokenizer, ids) == "[THINK]Hm[/THINK]Greta"
    assert answer(decode(tokenizer, [*ids, 2])) == "Greta"
