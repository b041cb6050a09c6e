"""The server's use of the prefix cache: no page is read twice, and never under another adapter."""

import random

import pytest
from conftest import random_adapters
from test_serving_engine import PASSAGE, Asked, at_work

from dyprag.adapters.generation import Sampling, generate
from dyprag.model.base import BaseModel
from dyprag.model.prefixes import PrefixCache, States
from dyprag.serving.rows import Reading, Rows
from dyprag.serving.sampling import Wish

PAGE = random.Random(3).choices(range(3, 300), k=70)


@pytest.mark.parametrize("seed", range(3))
def test_rows_with_known_beginnings_say_what_they_would_say_alone(lively: BaseModel, seed: int):
    draw = random.Random(seed)
    prompts = [[draw.randrange(3, 300) for _ in range(draw.choice([2, 20, 90]))] for _ in range(5)]
    adapters = [random_adapters(lively, 1, 3, n) if n % 2 else None for n in range(5)]
    expected = [
        list(generate(lively, [prompt], Sampling(12), lambda _, a=adapter: a, 1, stop_at_newline=False)[0].ids)
        for prompt, adapter in zip(prompts, adapters, strict=True)
    ]
    known: list[States | None] = []
    for prompt, adapter in zip(prompts, adapters, strict=True):
        reading = Reading(lively, adapter)
        for start in range(0, done := draw.randrange(len(prompt)), 7):
            reading.read(prompt[start : min(start + 7, done)])
        known.append(reading.states if done else None)
    rows = Rows(lively)
    rows.join(prompts, adapters, known)
    said: list[list[int]] = [[] for _ in prompts]
    for _ in range(12):
        tokens = rows.logits.argmax(-1).tolist()
        for ids, token in zip(said, tokens, strict=True):
            ids.append(token)
        rows.advance(tokens)
    for ids, right in zip(said, expected, strict=True):
        assert ids[: len(right)] == right


def test_a_page_asked_about_again_is_not_read_again(lively: BaseModel):
    prompts = [[*PAGE, *question] for question in ([5, 9, 33], [7, 7], [250, 14, 60])]
    expected = []
    for prompt in prompts:
        with at_work(lively, prefixes=PrefixCache(0)) as engine:
            engine.submit((asked := Asked(prompt)).job)
            expected.append(asked.end())
            assert asked.job.cached == 0
    with at_work(lively) as engine:
        for number, prompt in enumerate(prompts):
            engine.submit((asked := Asked(prompt)).job)
            assert asked.end() == expected[number]
            assert asked.job.cached == (len(PAGE) if number else 0)


def test_states_are_never_shared_across_adapters(lively: BaseModel):
    adapters = {name: random_adapters(lively, seed=n) for n, name in enumerate("ab")}

    def asked(name: str, question: list[int], shares_as: str | None) -> Asked:
        combine = (lambda made: adapters[name]) if name else (lambda made: None)
        return Asked([*PAGE, *question], Wish(8), passages=[PASSAGE], combine=combine, shares_as=shares_as)

    questions = [[5, 9, 33], [7, 7], [250, 14, 60]]
    alone = {}
    for name in ("", "a", "b"):
        for number, question in enumerate(questions):
            with at_work(lively) as engine:
                engine.submit((one := asked(name, question, name)).job)
                alone[name, number] = one.end()
    assert len(set(alone.values())) > len(questions)
    with at_work(lively) as engine:
        for number, question in enumerate(questions):
            for name in ("a", "", "b"):
                engine.submit((one := asked(name, question, name)).job)
                assert one.end() == alone[name, number]
                assert one.job.cached == (len(PAGE) if number else 0)
                engine.submit((one := asked(name, question, None)).job)  # an adapter without a name shares nothing
                assert one.end() == alone[name, number]
                assert (one.job.cached >= len(PAGE)) == (not name)


def test_a_chat_goes_on_where_it_was(lively: BaseModel):
    with at_work(lively) as engine:
        engine.submit((first := Asked(PAGE, Wish(24, one_line=False, bias=((2, -1e9),)))).job)
        first.end()
        longer = [*PAGE, *first.job.ids, 9, 9, 9]
        engine.submit((second := Asked(longer)).job)
        second.end()
    assert second.job.cached >= len(PAGE) + len(first.job.ids) - 2


def test_a_long_prompt_does_not_stop_the_others(lively: BaseModel):
    """A prompt of forty pieces is read while another answer is begun and ended."""
    long = random.Random(5).choices(range(3, 300), k=400)
    with at_work(lively, prefixes=PrefixCache(0), piece=500) as engine:
        engine.submit((asked := Asked(long, Wish(4))).job)
        whole = asked.end()
    ended: list[str] = []
    with at_work(lively, prefixes=PrefixCache(0), piece=10) as engine:
        slow, quick = Asked(long, Wish(4)), Asked([5, 9, 33], Wish(4))
        slow.job.emit = lambda piece: (ended.append("long"), slow.pieces.put(piece))
        quick.job.emit = lambda piece: (ended.append("short"), quick.pieces.put(piece))
        engine.submit(slow.job)
        engine.submit(quick.job)
        quick.end()
        assert slow.end() == whole
    assert ended.index("long") > ended.index("short")


@pytest.mark.parametrize("piece", [1, 10, 34, 69, 70, 71, 500])
def test_the_same_page_asked_about_by_many_at_once(lively: BaseModel, piece: int):
    prompts = [[*PAGE, *question] for question in ([5, 9, 33], [7, 7], [250, 14, 60], [], [])]
    expected = []
    for prompt in prompts:
        with at_work(lively, prefixes=PrefixCache(0)) as engine:
            engine.submit((asked := Asked(prompt, Wish(4))).job)
            expected.append(asked.end())
    with at_work(lively, piece=piece) as engine:
        everyone = [Asked(prompt, Wish(4)) for prompt in prompts * 3]
        for asked in everyone:
            engine.submit(asked.job)
        assert [asked.end() for asked in everyone] == expected * 3


def test_a_long_prompt_that_cannot_be_read_ends_alone(lively: BaseModel, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Reading, "read", fail)
    with at_work(lively, piece=10) as engine:
        odd, other = Asked(PAGE), Asked([5, 9, 33])
        engine.submit(odd.job)
        engine.submit(other.job)
        assert odd.end() == ("", "error")
        assert other.end()[1] in ("stop", "length")
