"""FLARE and what it shares with DRAGIN: triggers, continuation of answers, and independence of the rows of a batch."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from rounds import ASKED, DOCUMENTS, GREEDY, SAID, Watched, answer, make_parrot

from dyprag.adapters.generation import Sampling, generate
from dyprag.corpora.retrieval import BM25Retriever
from dyprag.errors import ConfigError, ModelError
from dyprag.methods.dragin import DRAGIN
from dyprag.methods.flare import FLARE
from dyprag.methods.protocol import Answer, Asked, Method
from dyprag.methods.rag import RAG
from dyprag.methods.rounds import choose_threshold, sentence_starts, spell
from dyprag.methods.vanilla import Vanilla
from dyprag.model.base import BaseModel, load_model
from dyprag.model.prompts import question_prompt

NEVER = {"flare": 0.0, "dragin": float("inf")}


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture(scope="module")
def base(lively: BaseModel) -> BaseModel:
    return lively


@pytest.fixture
def parrot(tiny_model: str, tmp_path: Path) -> BaseModel:
    return make_parrot(tiny_model, tmp_path / "parrot")


def methods(watched: Watched, **settings: float) -> list[Method]:
    return [FLARE(watched, **settings), DRAGIN(watched, **settings)]


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
