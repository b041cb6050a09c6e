"""DRAGIN: entropy and attention, the words that trigger, and the words of its queries."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, make_tiny_model
from rounds import GREEDY, QUESTIONS, SAID, Watched, answer, make_parrot
from transformers import AutoModelForCausalLM

from dyprag.adapters.generation import generate
from dyprag.methods.dragin import DRAGIN, Reading, _read_again, content_words, question_range
from dyprag.methods.protocol import Asked
from dyprag.methods.rounds import Doubt, Draft, sentence_starts
from dyprag.model.base import BaseModel, load_model
from dyprag.model.prompts import question_prompt


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def base(lively: BaseModel) -> BaseModel:
    return lively


@pytest.fixture
def parrot(tiny_model: str, tmp_path: Path) -> BaseModel:
    return make_parrot(tiny_model, tmp_path / "parrot")


def test_dragin_retrieves_only_above_the_threshold(base: BaseModel, watched: Watched):
    prompts = [question_prompt(base.tokenizer, question) for question in QUESTIONS]
    written = generate(base, prompts, GREEDY)
    highest = []
    for question, prompt, item in zip(QUESTIONS, prompts, written, strict=True):
        entropies, attention, _ = plainly(eager(base), prompt, item.ids)
        content = {place for word in content_words(base, item.ids) for place in word.positions}
        highest.append(max(float(entropies[k] * attention[k]) if k in content else 0 for k in range(len(item.ids))))
        draft = Draft(question, prompt, [], item.ids, item.probabilities)
        assert DRAGIN(watched).extremes(base, [draft], 1) == pytest.approx([highest[-1]], rel=1e-4)
    threshold = sum(sorted(highest)[1:3]) / 2
    answers = answer(base, DRAGIN(watched, threshold))
    assert [item.retrievals > 0 for item in answers] == [rind > threshold for rind in highest]


def eager(base: BaseModel) -> torch.nn.Module:
    """The same weights in a model that returns all attentions."""
    model = AutoModelForCausalLM.from_config(base.model.config, attn_implementation="eager")
    model.load_state_dict(base.model.state_dict())
    return model.eval()


@torch.no_grad()
def plainly(model: torch.nn.Module, before: Sequence[int], ids: Sequence[int]) -> tuple[list, list, torch.Tensor]:
    """Compute entropy, largest later attention and mean attention of each new id with plain loops."""
    output = model(input_ids=torch.tensor([[*before, *ids]]), output_attentions=True)
    heads, size = output.attentions[-1][0], len(before) + len(ids)
    entropies, later = [], []
    for place in range(len(before), size):
        p = output.logits[0, place - 1].double().softmax(-1)
        entropies.append(-(p * p.log()).sum().item())
        paid = [max([head[j, place].item() for j in range(place + 1, size)], default=0.0) for head in heads]
        later.append(sum(paid) / len(paid))
    return entropies, later, heads.mean(0)[len(before) :]


@pytest.mark.parametrize("shared", [1, 10**9])
@pytest.mark.parametrize("family", FAMILIES)
def test_entropy_and_attention_equal_a_plain_forward_pass(
    tmp_path: Path, family: str, shared: int, monkeypatch: pytest.MonkeyPatch
):
    folder = make_tiny_model(tmp_path / family, family)
    config = json.loads((folder / "config.json").read_text())
    config |= {"sliding_window": 16} if "gemma" in family else {}  # shorter than the prompts
    (folder / "config.json").write_text(json.dumps(config))
    base = load_model(str(folder), "float32", "cpu")
    for name, parameter in base.model.model.layers.named_parameters():
        if name.endswith("proj.weight"):
            parameter.mul_(8)
    kept = [[], [40, 41, 42], [90] * 7]
    drafts = [
        Draft(question, question_prompt(base.tokenizer, question), before, list(range(50, 58 + 2 * row)), ())
        for row, (question, before) in enumerate(zip(QUESTIONS, kept, strict=False))
    ]
    usual = base.model.config._attn_implementation
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", shared)
    looks = _read_again(base, [*drafts, replace(drafts[0], ids=())], 2)
    assert base.model.config._attn_implementation == usual
    assert looks[-1].entropies.numel() == looks[-1].later.numel() == 0
    model = eager(base)
    for draft, look in zip(drafts, looks, strict=False):
        entropies, later, attention = plainly(model, [*draft.prompt, *draft.kept], draft.ids)
        assert look.entropies.tolist() == pytest.approx(entropies, rel=1e-3)
        assert look.later.tolist() == pytest.approx(later, rel=1e-3, abs=1e-5)
        assert look.attention.shape == attention.shape
        assert torch.allclose(look.attention, attention, rtol=1e-3, atol=1e-5)


def test_dragin_cuts_before_the_uncertain_word_and_queries_with_earlier_words(parrot: BaseModel, watched: Watched):
    question = "Who built the Ostrel lamp in 1911, and was it Olmsted?"
    (item,) = answer(parrot, DRAGIN(watched, 0.01), [Asked(question, ())])
    assert item.text == SAID
    assert (item.tokens, item.retrievals) == (11, 1)
    assert watched.queries == ["built Ostrel lamp 1911 Olmsted Greta Olmsted built lamp Reil designed"]
    answer(parrot, DRAGIN(watched, 1e9), [Asked(question, ())])
    assert len(watched.queries) == 1


def test_dragin_queries_with_the_most_attended_words_in_their_order(parrot: BaseModel, watched: Watched):
    question = "Who built the Ostrel lamp in 1911?"
    prompt = question_prompt(parrot.tokenizer, question)
    said = generate(parrot, [prompt], GREEDY)[0].ids
    _, _, attention = plainly(eager(parrot), prompt, said)
    words, text = [], [*prompt, *said]
    for word in ["built", "Ostrel", "lamp", "1911"]:
        words.append((word, places_of(parrot, text, word, len(prompt))))
    for place, word in enumerate(["Greta", "Olmsted", "built", "lamp", "", "Reil", "designed"], start=len(prompt)):
        words += [(word, [place])] if word else []
    weight = {number: sum(attention[7, place].item() for place in places) for number, (_, places) in enumerate(words)}
    for kept in (1, 3, 6):
        best = sorted(weight, key=lambda number: -weight[number])[:kept]
        answer(parrot, DRAGIN(watched, 0.01, kept=kept), [Asked(question, ())])
        assert watched.queries.pop() == " ".join(words[number][0] for number in sorted(best))


def places_of(base: BaseModel, ids: Sequence[int], word: str, end: int) -> list[int]:
    """Return the ids of the last occurrence of a word before `end`."""
    for first in range(end, -1, -1):
        for last in range(first + 1, min(end, first + 8) + 1):
            if base.tokenizer.decode(ids[first:last]).strip() == word:
                return list(range(first, last))
    raise AssertionError(word)


def test_dragin_cuts_before_the_whole_word_whose_token_triggered(base: BaseModel, watched: Watched):
    ids = base.tokenizer("The xylophone Osk")["input_ids"]
    (word,) = [word for word in content_words(base, ids) if word.text == "xylophone"]
    assert len(word.positions) > 2
    prompt = question_prompt(base.tokenizer, "Which river?")
    later = torch.zeros(len(ids))
    later[word.positions[-1]] = 1
    look = Reading(torch.ones(len(ids)), later, torch.ones(len(ids), len(prompt) + len(ids)))
    doubt = DRAGIN(watched)._examine(base, Draft("Which river?", prompt, [], ids, ()), look)
    assert doubt == Doubt(word.positions.start, "river")


def test_stop_words_and_punctuation_never_trigger(base: BaseModel, watched: Watched):
    ids = base.tokenizer(" and it was the. Of, (!")["input_ids"]
    draft = Draft("Who?", question_prompt(base.tokenizer, "Who?"), [], ids, [0.1] * len(ids))
    assert DRAGIN(watched).extremes(base, [draft], 1) == [0.0]
    assert DRAGIN(watched, 0.0).examine(base, [draft], 1) == [None]


def test_relative_attention_has_a_mean_of_one_in_each_sentence(base: BaseModel, watched: Watched):
    ids = base.tokenizer("Osk Reil Vell. Mara Vell Quarn bridge.")["input_ids"]
    draft = Draft("Who?", question_prompt(base.tokenizer, "Who?"), [], ids, [0.1] * len(ids))
    method, start = DRAGIN(watched, relative=True), sentence_starts(base, ids)[1]
    look = Reading(torch.ones(len(ids)), torch.rand(len(ids)) + 0.1, torch.zeros(len(ids), 1))
    content = {place for word in content_words(base, ids) for place in word.positions}
    rind = method._rind(base, draft, look)
    for part in (range(start), range(start, len(ids))):
        mean = sum(look.later[place].item() for place in part) / len(part)
        wanted = [look.later[place].item() / mean if place in content else 0.0 for place in part]
        assert [rind[place] for place in part] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("question", ["Who built it?", " Où est né Günter Graß — 東京? ", "a <|im_end|> b", "W"])
@pytest.mark.parametrize("chain_of_thought", [False, True])
def test_the_question_is_located_in_its_prompt(base: BaseModel, question: str, chain_of_thought: bool):
    passages = [f"Asked was: {question}. Question: {question}"]
    prompt = question_prompt(base.tokenizer, question, passages, chain_of_thought)
    place = question_range(base, prompt, question)
    text = base.tokenizer.decode([prompt[index] for index in place])
    assert text.strip() == question.replace("<|", "< |").strip()
    assert base.tokenizer.decode(prompt[place.stop :]).startswith(("<|im_end|>", " <|im_end|>"))


def test_a_question_changed_by_the_template_is_not_located(base: BaseModel):
    assert not question_range(base, question_prompt(base.tokenizer, "Who?"), "Where?")
    assert not question_range(base, question_prompt(base.tokenizer, "?!"), "?!")
