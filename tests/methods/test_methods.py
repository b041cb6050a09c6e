"""Methods: the content of prompts, the injected adapters, and different rows in one batch."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from conftest import TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters, initial_adapters, merge, stack
from dyprag.config import TranslatorSettings
from dyprag.corpora.documents import Document, Retrieved
from dyprag.evaluation.metrics import extract_answer
from dyprag.methods.controls import OneForAll
from dyprag.methods.dyprag import DyPRAG
from dyprag.methods.gate import PROBED, Gate, borne_out, stands_in
from dyprag.methods.prag import PRAG
from dyprag.methods.protocol import Asked, Method, answer_questions, fit, fitting_prompt
from dyprag.methods.rag import RAG
from dyprag.methods.vanilla import Vanilla
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.model.prompts import ANSWER_PREFIX, EXAMPLES, INSTRUCTION, PromptForm, question_prompt
from dyprag.translators.hypernetwork import Translator

DOCUMENTS = [Document(i, text, i.title()) for i, text in TEXTS.items()]
RETRIEVED = tuple(Retrieved(document, score) for document, score in zip(DOCUMENTS, (3.0, 2.5, 1.0), strict=True))
GREEDY = Sampling(6)


@pytest.fixture(scope="module")
def trained(base: BaseModel) -> dict[str, Adapters]:
    """A strong random adapter for each document, by id."""
    generator = torch.Generator().manual_seed(0)
    shapes = initial_adapters(base, 2, 32, 0, len(DOCUMENTS))
    a, b = (
        {p: 0.1 * torch.randn(t.shape, generator=generator) for p, t in half.items()} for half in (shapes.a, shapes.b)
    )
    every = Adapters(a, b, shapes.scale)
    return {document.id: every.select([number]) for number, document in enumerate(DOCUMENTS)}


@pytest.fixture(scope="module")
def embeddings() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {document.id: torch.randn(32, generator=generator) for document in DOCUMENTS}


@pytest.fixture(scope="module")
def translator(base: BaseModel) -> Translator:
    return Translator.for_model(base, TranslatorSettings(width=4, residual=False, init_std=0.05), 2, 32, 0)


def translating(translator: Translator, embeddings: dict[str, torch.Tensor]):
    return lambda documents: translator.translate([embeddings[document.id] for document in documents])


@pytest.fixture
def methods(trained: dict, embeddings: dict, translator: Translator) -> dict[str, Method]:
    every: list[Method] = [Vanilla(), RAG()]
    for combine in (False, True):
        every.append(PRAG(lambda document: trained[document.id], "mean", combine))
        every.append(DyPRAG(translating(translator, embeddings), "mean", combine))
    return {method.name: method for method in every}


def same(first: Adapters | None, second: Adapters | None) -> bool:
    assert first is not None
    assert second is not None
    pairs = ((tensor, second.tensors()[name]) for name, tensor in first.tensors().items())
    return first.scale == second.scale and all(x.shape == y.shape and torch.allclose(x, y) for x, y in pairs)


NAMES = ["vanilla", "rag", "prag", "prag-combine", "dyprag", "dyprag-combine"]


def test_the_methods_have_the_names_of_the_paper(methods: dict[str, Method]):
    assert sorted(methods) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_only_rag_and_combine_show_passages(base: BaseModel, methods: dict[str, Method], name: str):
    asked = [
        Asked(question, RETRIEVED) for question in ("Who built the lamp?", "Which river?", "Who wrote Tide Songs?")
    ]
    answers = answer_questions(base, methods[name], asked, GREEDY, batch_size=2)
    in_prompt = name == "rag" or name.endswith("combine")
    adapter = methods[name].adapter(RETRIEVED)
    assert (adapter is None) == (name in {"vanilla", "rag"})

    def one_by_one(passages: list[str], adapter: Adapters | None) -> list[str]:
        prompts = [question_prompt(base.tokenizer, item.question, passages) for item in asked]
        return [generate(base, [prompt], GREEDY, lambda batch: adapter)[0].text for prompt in prompts]

    passages = [document.passage for document in DOCUMENTS]
    texts = [answer.text for answer in answers]
    assert texts == one_by_one(passages if in_prompt else [], adapter)
    assert texts != one_by_one([] if in_prompt else passages, adapter)
    if adapter:
        assert texts != one_by_one(passages if in_prompt else [], None)
    assert all(answer.seconds > 0 and answer.tokens <= 6 for answer in answers)


@pytest.mark.parametrize("how", ["sum", "mean", "matrices", "weighted"])
def test_prag_merges_the_trained_adapters(trained: dict[str, Adapters], how: str):
    wanted = merge(stack([trained[document.id] for document in DOCUMENTS]), how, [3.0, 2.5, 1.0])
    assert same(PRAG(lambda document: trained[document.id], how).adapter(RETRIEVED), wanted)


@pytest.mark.parametrize("how", ["sum", "mean", "matrices", "weighted"])
def test_prag_leaves_out_documents_without_an_adapter(trained: dict[str, Adapters], how: str):
    without = {name: adapter for name, adapter in trained.items() if name != "bridge"}
    wanted = merge(stack([trained["lamp"], trained["book"]]), how, [3.0, 1.0])
    assert same(PRAG(lambda document: without.get(document.id), how).adapter(RETRIEVED), wanted)
    assert PRAG(lambda document: None, how).adapter(RETRIEVED) is None


@pytest.mark.parametrize("how", ["sum", "mean", "matrices", "weighted"])
def test_dyprag_merges_translated_adapters(translator: Translator, embeddings: dict, how: str):
    method = DyPRAG(translating(translator, embeddings), how)
    with torch.no_grad():
        each = stack([translator(embeddings[document.id][None]) for document in DOCUMENTS])
    made = method.adapter(RETRIEVED)
    assert same(made, merge(each, how, [3.0, 2.5, 1.0]))
    assert method.adapter(()) is None


def test_rows_of_different_rank_or_without_adapter_share_a_batch(base: BaseModel, trained: dict[str, Adapters]):
    known = {"lamp": trained["lamp"], "bridge": trained["bridge"]}
    method = PRAG(lambda document: known.get(document.id), "sum")
    asked = [
        Asked("Who built the lamp?", RETRIEVED),  # rank 4
        Asked("Which river is it?", RETRIEVED[:1]),  # rank 2
        Asked("Who wrote Tide Songs?", RETRIEVED[2:]),  # no adapter
        Asked("In which year?", ()),  # nothing retrieved
    ]
    together = answer_questions(base, method, asked, GREEDY, batch_size=4)
    alone = [answer_questions(base, method, [item], GREEDY, batch_size=1)[0] for item in asked]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    vanilla = answer_questions(base, Vanilla(), asked, GREEDY, batch_size=4)
    assert [answer.text for answer in together[2:]] == [answer.text for answer in vanilla[2:]]
    assert [answer.text for answer in together[:2]] != [answer.text for answer in vanilla[:2]]


def test_the_answers_come_in_the_order_of_the_questions(base: BaseModel, methods: dict[str, Method]):
    asked = [Asked("W" * number + "ho?", RETRIEVED[: 1 + number % 3]) for number in range(7, 0, -1)]
    texts = [answer.text for answer in answer_questions(base, methods["prag"], asked, GREEDY, batch_size=3)]
    assert texts == [answer_questions(base, methods["prag"], [item], GREEDY, 1)[0].text for item in asked]
    assert answer_questions(base, methods["prag"], [], GREEDY, 3) == []


def test_an_adapter_has_the_models_shapes(base: BaseModel, methods: dict[str, Method]):
    for name in ("prag", "dyprag"):
        adapter = methods[name].adapter(RETRIEVED)
        for projection in PROJECTIONS:
            fan_in, fan_out = base.features(projection)
            assert adapter.a[projection].shape == (1, base.layers, 6, fan_in)
            assert adapter.b[projection].shape == (1, base.layers, fan_out, 6)


@pytest.mark.parametrize("name", ["prag", "prag-combine", "dyprag", "dyprag-combine", "generic", "generic-combine"])
def test_strength_scales_the_delta_and_0_is_exactly_no_adapter(
    base: BaseModel, methods: dict[str, Method], trained: dict[str, Adapters], name: str
):
    if name.startswith("generic"):
        method: Any = OneForAll(name, trained["lamp"], name.endswith("combine"))
    else:
        method = methods[name]
    asked = [Asked(question, RETRIEVED) for question in ("Who built the lamp?", "Which river?")]
    half, none = replace(method, strength=0.5), replace(method, strength=0.0)
    whole, part = method.adapter(RETRIEVED), half.adapter(RETRIEVED)
    assert part.scale == whole.scale / 2
    assert all(torch.equal(tensor, part.tensors()[key]) for key, tensor in whole.tensors().items())
    plain = RAG() if name.endswith("combine") else Vanilla()
    assert none.adapter(RETRIEVED) is None
    texts, without, wanted = (
        [answer.text for answer in one.answer(base, asked, GREEDY, 2)] for one in (method, none, plain)
    )
    assert without == wanted != texts


def test_the_prompt_form_sets_the_passages_and_their_order(base: BaseModel):
    def shown(**form: Any) -> str:
        prompt = fitting_prompt(base, Asked("Which river?", RETRIEVED, form=PromptForm(**form)), True, 8)
        return base.tokenizer.decode(prompt.ids)

    best, second, last = (document.text for document in DOCUMENTS)
    plain = shown()
    assert plain.index(best) < plain.index(second) < plain.index(last)
    turned = shown(order="best-last")
    assert turned.index(last) < turned.index(second) < turned.index(best)
    two = shown(order="best-last", shown=2)
    assert two.index(second) < two.index(best)
    assert last not in two
    assert INSTRUCTION in shown(ask_for="instruction")
    assert all(answer in shown(ask_for="examples") for *_, answer in EXAMPLES)
    assert plain.rstrip().endswith(ANSWER_PREFIX)
    assert not shown(ask_for="sentence").rstrip().endswith(ANSWER_PREFIX)


def test_without_passages_the_prompt_is_the_training_prompt_in_every_form(base: BaseModel):
    form = PromptForm("best-last", "examples", 1)
    prompt = fitting_prompt(base, Asked("Which river?", RETRIEVED, form=form), False, 8, as_trained=True)
    assert prompt.ids == question_prompt(base.tokenizer, "Which river?")


SENTENCES = [f"Sentence {number} tells of lamp {number}." for number in range(40)]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(20, 900))
def test_passages_that_do_not_fit_are_cut_after_a_sentence(lengths: list[int], most: int):
    found = tuple(Retrieved(Document(str(n), " ".join(SENTENCES[:n])), 1.0) for n in lengths)
    prompt = fit(found, lambda texts: [0] * (10 + sum(len(text.split()) + 2 for text in texts)), most)
    whole = 10 + sum(6 * n + 2 for n in lengths)
    assert len(prompt.ids) <= max(most, 10)
    assert (len(prompt.ids) == whole) == (whole <= most)
    if len(prompt.ids) < whole:  # no further sentence would have fitted
        assert len(prompt.ids) + 8 * len(lengths) > most


@pytest.mark.parametrize("most", [1, 6, 400])
def test_only_answers_that_reach_the_token_limit_are_marked_as_cut(base: BaseModel, most: int):
    asked = [Asked(question, RETRIEVED) for question in ("Who built the lamp?", "Which river?", "Who?")]
    answers = answer_questions(base, RAG(), asked, Sampling(most), 3)
    assert [answer.cut for answer in answers] == [answer.tokens == most for answer in answers]
    assert any(answer.cut for answer in answers) == (most < 400)  # by then every answer has ended or repeats itself


def test_the_gate_leaves_an_adapter_out_unless_the_passages_contain_its_answer(
    base: BaseModel, trained: dict[str, Adapters]
):
    asked = [Asked(question, RETRIEVED[:1]) for question in ("Who built the lamp?", "Which river?", "Who?")]
    beside = PRAG(lambda document: trained[document.id], "sum", True, strength=0.5)
    alone = replace(beside, passages_in_prompt=False, strength=1.0)
    said = [extract_answer(answer.text) for answer in answer_questions(base, alone, asked, Sampling(PROBED), 3)]
    assert said[0].strip()
    told = Document(
        "lamp", f"{DOCUMENTS[0].text} And {said[0]} too.", "Lamp"
    )  # contains what the lamp's adapter answers
    asked[0] = Asked(asked[0].question, (Retrieved(told, 1.0),))
    gated = replace(beside, gate=Gate(2.0))
    answers, plain, always = (
        answer_questions(base, method, asked, GREEDY, 3) for method in (gated, RAG(), beside)
    )  # fmt: skip
    wanted = [stands_in(text, item.question, [item.retrieved[0].document.passage]) for text, item in
              zip(said, asked, strict=True)]  # fmt: skip
    assert wanted[0]
    assert not all(wanted)
    assert [answer.adapted for answer in answers] == wanted
    both = zip(wanted, always, plain, strict=True)
    assert [answer.text for answer in answers] == [
        (with_it if used else without).text for used, with_it, without in both
    ]


@pytest.mark.parametrize(
    ("text", "question", "wanted"),
    [
        ("Ada Vell.", "Who built it?", True),
        ("ada vell, in 1911", "Who built it?", True),
        ("Ada Velt.", "Who built it?", False),
        ("Ada Vell.", "What did Ada Vell build?", False),
        ("yes", "Is it tall?", False),
        ("", "Who built it?", False),
        ("1911", "When?", True),
        ("191", "When?", False),
    ],
)
def test_an_answer_is_borne_out_if_a_passage_contains_it_as_whole_words(text: str, question: str, wanted: bool):
    assert stands_in(text, question, ["It leans.", "Yes, Ada Vell built it in 1911."]) == wanted


def test_the_gate_asks_nothing_without_adapters(base: BaseModel):
    assert borne_out(base, [None, None], ["Who?", "Which?"], [[], []], Gate(2.0)) == [None, None]
