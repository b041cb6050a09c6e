"""FLARE and DRAGIN: triggers, queries, continuation of answers, and independence of the rows of a batch."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import pytest
import torch
from conftest import FAMILIES, TEXTS, make_tiny_model
from transformers import AutoModelForCausalLM

from dyprag.adapters.generation import Sampling, generate
from dyprag.corpora.documents import Document, Retrieved
from dyprag.corpora.retrieval import BM25Retriever
from dyprag.errors import ConfigError, ModelError
from dyprag.methods.dragin import DRAGIN, Reading, _read_again, content_words, question_range
from dyprag.methods.flare import FLARE
from dyprag.methods.protocol import Answer, Asked, Method
from dyprag.methods.rag import RAG
from dyprag.methods.rounds import Doubt, Draft, choose_threshold, sentence_starts, spell
from dyprag.methods.vanilla import Vanilla
from dyprag.model.base import BaseModel, load_model
from dyprag.model.prompts import question_prompt

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()]
QUESTIONS = [
    "Who?",
    "Which river does the Quarn bridge cross?",
    "Who built the Ostrel lamp, and when?",
    "Who wrote it?",
]
ASKED = [Asked(question, ()) for question in QUESTIONS]
GREEDY = Sampling(12)
NEVER = {"flare": 0.0, "dragin": float("inf")}


@dataclass
class Watched:
    """BM25 over the three documents that records its queries."""

    queries: list[str] = field(default_factory=list)

    def search(self, question: str, count: int) -> list[Retrieved]:
        self.queries.append(question)
        return BM25Retriever(DOCUMENTS).search(question, count)


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def base(lively: BaseModel) -> BaseModel:
    return lively


SENTENCES = ([" Greta", " Olmsted", " built", " lamp", "."], [" Reil", " designed", " bridge", "!"], [" Vell", "?"])
SAID = "Greta Olmsted built lamp. Reil designed bridge! Vell?"


@pytest.fixture
def parrot(tiny_model: str, tmp_path: Path) -> BaseModel:
    """A model that always answers SAID, with low confidence only in ' bridge'."""
    base = load_model(str(shutil.copytree(tiny_model, tmp_path / "parrot")), "float32", "cpu")
    embedding, head = base.model.get_input_embeddings().weight, base.model.get_output_embeddings().weight
    for layer in base.model.model.layers:  # only the embedding of the last token reaches the head
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    said = [base.tokenizer(word)["input_ids"][0] for sentence in SENTENCES for word in sentence]
    head.zero_()
    for start in base.tokenizer(":\n")["input_ids"]:  # the last token of both kinds of prompt
        _teach(embedding, head, [start, *said, base.tokenizer.eos_token_id], said[7])
    return base


def _teach(embedding: torch.Tensor, head: torch.Tensor, chain: Sequence[int], unsure: int) -> None:
    assert len(chain) == 13
    for direction, (token, following) in enumerate(pairwise(chain)):
        embedding[token] = torch.eye(embedding.shape[1])[direction]
        head[following] = embedding[token] * (0.9 if following == unsure else 3)


def methods(watched: Watched, **settings: float) -> list[Method]:
    return [FLARE(watched, **settings), DRAGIN(watched, **settings)]


def answer(
    base: BaseModel, method: Method, asked: Sequence[Asked] = ASKED, sampling: Sampling = GREEDY
) -> list[Answer]:
    return method.answer(base, asked, sampling, 8)


def untimed(answers: Sequence[Answer]) -> list[Answer]:
    return [replace(item, seconds=0.0, first_token=0.0) for item in answers]


def least(base: BaseModel, asked: Sequence[Asked] = ASKED) -> list[float]:
    """Return the lowest probability in each answer without passages, from `generate`."""
    prompts = [question_prompt(base.tokenizer, item.question, (), item.chain_of_thought) for item in asked]
    return [min(g.probabilities) for g in generate(base, prompts, GREEDY)]


@pytest.mark.parametrize("chain_of_thought", [False, True])
@pytest.mark.parametrize("kind", [FLARE, DRAGIN])
def test_without_doubt_the_answer_equals_vanilla(base: BaseModel, watched: Watched, kind: type, chain_of_thought: bool):
    asked = [replace(item, chain_of_thought=chain_of_thought) for item in ASKED]
    method = kind(watched, threshold=NEVER[kind(watched).name])
    assert untimed(answer(base, method, asked)) == untimed(answer(base, Vanilla(), asked))
    assert watched.queries == []


def test_flare_retrieves_only_below_the_threshold(base: BaseModel, watched: Watched):
    smallest = least(base)
    for threshold in sorted(smallest)[1:3]:
        answers = answer(base, FLARE(watched, threshold + 1e-5))
        assert [item.retrievals > 0 for item in answers] == [p < threshold + 1e-5 for p in smallest]
    assert not any(item.retrievals for item in answer(base, FLARE(watched, min(smallest) - 1e-5)))


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


def test_flare_discards_an_uncertain_sentence_and_queries_with_its_certain_tokens(parrot: BaseModel, watched: Watched):
    (item,) = answer(parrot, FLARE(watched, 0.5), [Asked("Who built the lamp?", ())])
    assert item.text == SAID
    assert (item.tokens, item.retrievals) == (11, 1)
    assert watched.queries == ["Reil designed !"]
    assert item.passages[0].document.id == "bridge"
    assert all(one.score > 0 for one in item.passages)
    wanted = question_prompt(
        parrot.tokenizer, "Who built the lamp?", [found.document.passage for found in item.passages]
    )
    assert item.prompt == parrot.tokenizer.decode(wanted)


def test_flare_queries_with_the_question_if_no_token_is_certain(parrot: BaseModel, watched: Watched):
    answer(parrot, FLARE(watched, 1.1, rounds=1), [Asked("Who built the lamp?", ())])
    assert watched.queries == ["Who built the lamp?"]


def test_flare_with_mean_confidence_needs_more_than_one_uncertain_token(parrot: BaseModel, watched: Watched):
    asked = [Asked("Who built the lamp?", ())]
    (sure, unsure) = (answer(parrot, FLARE(watched, limit, confidence=fmean), asked)[0] for limit in (0.7, 0.92))
    assert (sure.retrievals, unsure.retrievals) == (0, 1)  # (1 + 1 + 0.3 + 1) / 4 = 0.83


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


@pytest.mark.parametrize("kind", [FLARE, DRAGIN])
def test_a_batch_gives_the_same_answers_as_single_prompts(base: BaseModel, kind: type):
    threshold = {"flare": sorted(least(base))[1] + 1e-5, "dragin": 0.02}[kind(Watched()).name]
    asked = [*ASKED, Asked(f"Who? {DOCUMENTS[0].text}", ())]
    asked[1] = replace(asked[1], chain_of_thought=True)
    method = kind(Watched(), threshold=threshold, passages=2)
    alone = [answer(base, method, [item])[0] for item in asked]
    together = method.answer(base, asked, GREEDY, 4)
    assert untimed(together) == untimed(alone)
    assert any(item.retrievals for item in alone)
    assert all(0 < item.first_token <= item.seconds for item in together)


@pytest.mark.parametrize("limit", [1, 7])
@pytest.mark.parametrize("kind", [FLARE, DRAGIN])
def test_tokens_and_rounds_stay_within_their_limits(base: BaseModel, watched: Watched, kind: type, limit: int):
    always = {"flare": 1.1, "dragin": 0.0}[kind(watched).name]
    for rounds in (0, 2):
        watched.queries.clear()
        answers = answer(base, kind(watched, threshold=always, rounds=rounds), sampling=Sampling(limit))
        assert all(item.tokens <= limit and item.retrievals <= rounds for item in answers)
        assert sum(item.retrievals for item in answers) == len(watched.queries)


def test_each_sentence_is_doubted_once_up_to_the_limit_of_rounds(parrot: BaseModel, watched: Watched):
    for rounds in range(5):
        watched.queries.clear()
        (item,) = answer(parrot, FLARE(watched, 1.1, rounds=rounds), [Asked("Who?", ())])
        assert (item.text, item.retrievals, len(watched.queries)) == (SAID, min(rounds, 3), min(rounds, 3))


def test_a_rewritten_answer_continues_from_exact_ids_with_the_passages(base: BaseModel, watched: Watched):
    """A first sentence without certain words is rewritten from the start: that equals RAG with the question."""
    asked = [Asked("Who built the Ostrel lamp?", ())]
    (item,) = answer(base, FLARE(watched, 1.1, passages=2, rounds=1), asked)
    found = tuple(watched.search("Who built the Ostrel lamp?", 2))
    (rag,) = RAG().answer(base, [replace(asked[0], retrieved=found)], GREEDY, 1)
    assert untimed([item]) == untimed([replace(rag, retrievals=1)])


def test_documents_retrieved_before_are_not_used(base: BaseModel, watched: Watched):
    found = tuple(BM25Retriever(DOCUMENTS).search("lamp", 2))
    for method, threshold in zip(methods(watched), NEVER.values(), strict=True):
        (item,) = answer(base, replace(method, threshold=threshold), [Asked("Who?", found)])  # type: ignore[type-var]
        assert item.passages == ()


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("kind", [FLARE, DRAGIN])
def test_a_chosen_threshold_triggers_for_its_share_of_the_questions(
    base: BaseModel, watched: Watched, kind: type, share: float
):
    threshold = choose_threshold(base, kind(watched), ASKED, GREEDY, 3, share)
    assert watched.queries == []
    answers = answer(base, kind(watched, threshold=threshold))
    assert sum(item.retrievals > 0 for item in answers) == share * len(ASKED)


def test_a_threshold_needs_questions_and_a_share(base: BaseModel, watched: Watched):
    with pytest.raises(ConfigError, match="0 questions"):
        choose_threshold(base, FLARE(watched), [], GREEDY, 3)
    with pytest.raises(ConfigError, match="share of 50"):
        choose_threshold(base, FLARE(watched), ASKED, GREEDY, 3, 50)


def test_no_questions_give_no_answers(base: BaseModel, watched: Watched):
    assert [answer(base, method, []) for method in methods(watched)] == [[], []]


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


def test_ids_are_located_in_their_text_even_within_a_character(base: BaseModel):
    ids = base.tokenizer("né 東 Osk. Reil")["input_ids"]
    spelled = spell(base, ids)
    assert spelled.text == "né 東 Osk. Reil"
    for word in ("né", "東", "Osk", "Reil"):
        first = spelled.text.index(word)
        places = spelled.tokens(first, first + len(word))
        assert base.tokenizer.decode([ids[place] for place in places]).strip() == word
    start = sentence_starts(base, ids)
    assert [base.tokenizer.decode(ids[first:]) for first in start] == ["né 東 Osk. Reil", " Reil"]
    assert sentence_starts(base, []) == []


@pytest.mark.real_model
def test_the_embedded_model_answers_in_rounds():
    try:
        base = load_model("smollm2-135m")
    except ModelError as error:
        pytest.skip(str(error))
    asked, queries = [Asked("Who built the Ostrel lamp?", ())], Watched()
    for method in (FLARE(queries, 1.1, rounds=1), DRAGIN(queries, 0.0, rounds=1)):
        (item,) = method.answer(base, asked, Sampling(16), 1)
        assert item.retrievals == 1
        assert "Greta Olmsted" in item.text
    assert queries.queries[0] == asked[0].question
    assert queries.queries[1].startswith("built Ostrel lamp")
