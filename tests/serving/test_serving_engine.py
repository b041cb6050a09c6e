"""The engine: a failure ends only its own answer, and the others end as they would alone."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from conftest import random_adapters, wait_for

from dyprag.adapters.lora import Adapters
from dyprag.corpora.documents import Document
from dyprag.model.base import BaseModel
from dyprag.serving.engine import Engine
from dyprag.serving.jobs import Job, Piece
from dyprag.serving.rows import Rows
from dyprag.serving.sampling import Chooser, Wish

PROMPTS = [[5, 9, 33, 70, 12], [7, 7, 21], [250, 14, 60, 61, 62, 100, 9, 9]]
PASSAGE = Document("lamp", "The Ostrel lamp.")


class Asked:
    """A job and its result."""

    def __init__(self, prompt: list[int], wish: Wish = Wish(24), seconds: float = 60, **more: Any) -> None:
        self.pieces: queue.Queue[Piece] = queue.Queue()
        self.job = Job(prompt, wish, self.pieces.put, time.monotonic() + seconds, **more)

    def end(self) -> tuple[str, str]:
        """The whole text, and how it ended."""
        text = ""
        while True:
            piece = self.pieces.get(timeout=30)
            text += piece.text
            if piece.finish:
                return text, piece.finish


@contextmanager
def at_work(base: BaseModel, adapters: Callable[..., Any] | None = None, **more: Any) -> Iterator[Engine]:
    engine = Engine(base, adapters or (lambda passages: random_adapters(base)), lambda passage: False, **more)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture
def alone(lively: BaseModel) -> list[tuple[str, str]]:
    """The answers to the prompts without other requests."""
    ends = []
    for prompt in PROMPTS:
        with at_work(lively) as engine:
            asked = Asked(prompt)
            engine.submit(asked.job)
            ends.append(asked.end())
    return ends


def beside(engine: Engine, odd: Asked) -> list[tuple[str, str]]:
    """The answers to the prompts when an unusual request joins in between."""
    others = [Asked(prompt) for prompt in PROMPTS]
    for asked in (*others[:2], odd, others[2]):
        engine.submit(asked.job)
    return [asked.end() for asked in others]


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e-45, 1e-40, 1e-38, 1e-9, 1e-4])
def test_a_tiny_temperature_means_greedy_decoding(lively: BaseModel, alone: list[tuple[str, str]], temperature: float):
    with at_work(lively) as engine:
        odd = Asked(PROMPTS[0], Wish(24, temperature, top_p=temperature))
        assert beside(engine, odd) == alone
        assert odd.end() == alone[0]


@pytest.mark.parametrize(
    "wish",
    [
        Wish(24, 2.0, 0.0), Wish(24, 2.0, 1e-300), Wish(24, 2.0, top_k=1), Wish(24, 2.0, min_p=1.0),
        Wish(24, 1e308, top_k=1), Wish(24, repetition_penalty=1.0), Wish(24, bias=((3, 0.0),)),
    ],
)  # fmt: skip
def test_sampling_limits_keep_the_likeliest_token(lively: BaseModel, alone: list[tuple[str, str]], wish: Wish):
    with at_work(lively) as engine:
        odd = Asked(PROMPTS[0], wish)
        assert beside(engine, odd) == alone
        assert odd.end() == alone[0]


def fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("odd")


def test_a_faulty_request_ends_alone(lively: BaseModel, alone: list[tuple[str, str]]):
    def out_of_memory(passages: Any) -> Adapters:
        raise MemoryError

    with at_work(lively) as engine:
        deaf = Asked(PROMPTS[0])
        deaf.job.emit = fail
        assert beside(engine, deaf) == alone
        assert beside(engine, Asked(PROMPTS[0], Wish(24, bias=((10**6, 1.0),)))) == alone
        for odd in (
            Asked([10**6]), Asked(PROMPTS[0], Wish(24, 1.0, seed=2**70)),
            Asked(PROMPTS[0], passages=[PASSAGE], combine=fail),
            Asked(PROMPTS[0], passages=[PASSAGE], combine=lambda made: made),  # no adapter
        ):  # fmt: skip
            assert beside(engine, odd) == alone
            assert odd.end()[1] == "error"
    with at_work(lively, out_of_memory) as engine:
        odd = Asked(PROMPTS[0], passages=[PASSAGE])
        assert beside(engine, odd) == alone
        assert odd.end() == ("", "error")


def test_non_finite_logits_end_only_their_own_answer(lively: BaseModel, alone: list[tuple[str, str]]):
    def broken(passages: Any) -> Adapters:
        adapters = random_adapters(lively)
        for table in (*adapters.a.values(), *adapters.b.values()):
            table.fill_(torch.inf)
        return adapters

    with at_work(lively, broken, most_rows=3) as engine:
        for size in (60, 5, 90):
            odd = Asked(list(range(3, 3 + size)), passages=[PASSAGE], combine=lambda made: made[0])
            assert beside(engine, odd) == alone
            assert odd.end() == ("", "error")
            longer = Asked(list(range(3, 3 + size // 2)))
            engine.submit(longer.job)
            assert longer.end()[1] in ("stop", "length")


def test_answers_continue_after_a_failed_step(
    lively: BaseModel, alone: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
):
    steps, real = iter(range(1000)), Rows.advance

    def now_and_then(rows: Rows, tokens: list[int]) -> None:
        if next(steps) % 5 == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(rows, tokens)

    monkeypatch.setattr(Rows, "advance", now_and_then)
    with at_work(lively) as engine:
        assert beside(engine, Asked([3, 4, 5])) == alone


def test_if_not_all_fit_the_last_answer_to_join_is_dropped(
    lively: BaseModel, alone: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
):
    real = Rows.advance

    def small(rows: Rows, tokens: list[int]) -> None:
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        real(rows, tokens)

    monkeypatch.setattr(Rows, "advance", small)
    with at_work(lively) as engine:
        others = [Asked(prompt) for prompt in PROMPTS]
        for asked in others:
            engine.submit(asked.job)
        wait_for("their rows", lambda: engine.running == 3 or not others[0].pieces.empty())
        odd = Asked([3, 4, 5], Wish(400))
        engine.submit(odd.job)
        assert [asked.end() for asked in others] == alone
        assert odd.end()[1] in ("error", "length", "stop")
        assert engine.alive


def test_rows_are_unchanged_if_a_new_row_cannot_join(lively: BaseModel):
    rows, other = Rows(lively), Rows(lively)
    for each in (rows, other):
        each.join(PROMPTS[:2], [None, random_adapters(lively)])
    with pytest.raises(IndexError):
        rows.join([[1] * 300, [10**6]], [random_adapters(lively, rank=8), None])
    for tokens in ([3, 4], [5, 6]):
        rows.advance(tokens)
        other.advance(tokens)
        assert torch.allclose(rows.logits, other.logits, atol=1e-5)


def test_non_finite_values_of_removed_rows_do_not_reach_longer_prompts(lively: BaseModel):
    broken = random_adapters(lively)
    for table in (*broken.a.values(), *broken.b.values()):
        table.fill_(torch.inf)
    rows = Rows(lively)
    rows.join([PROMPTS[0], [7] * 50, PROMPTS[2]], [None, broken, None])
    assert not rows.logits[1].isfinite().any()
    for row in (2, 1):
        rows.leave(row)
    rows.advance([3])  # drops the range that only the long row used
    rows.join([PROMPTS[1]], [None])
    rows.join([[9] * 50], [None])  # uses that range again
    rows.advance([3, 4, 5])
    assert rows.logits.isfinite().all()


def test_repeated_failures_end_their_answers_and_the_engine_survives(
    lively: BaseModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Rows, "advance", fail)
    with at_work(lively) as engine:
        asked = [Asked(prompt) for prompt in PROMPTS]
        for one in asked:
            engine.submit(one.job)
        assert {one.end()[1] for one in asked} <= {"error", "length"}
        monkeypatch.undo()
        again = Asked(PROMPTS[0])
        engine.submit(again.job)
        assert again.end()[1] in ("stop", "length")


def chosen(wish: Wish, logits: list[float], ids: list[int] = [], times: int = 1) -> set[int]:  # noqa: B006
    return {
        Chooser(Wish(**{**vars(wish), "seed": seed}), [0], 1.0).choose(torch.tensor(logits), ids)
        for seed in range(times)
    }


def test_penalties_and_biases_change_the_chosen_token():
    logits = [1.0, 2.0, 3.0, 2.5]
    assert chosen(Wish(1), logits, [2, 2]) == {2}
    assert chosen(Wish(1, presence_penalty=0.6), logits, [2, 2]) == {3}
    assert chosen(Wish(1, presence_penalty=0.4), logits, [2, 2]) == {2}
    assert chosen(Wish(1, frequency_penalty=0.3), logits, [2, 2]) == {3}
    assert chosen(Wish(1, frequency_penalty=-1.0), logits, [1, 1]) == {1}
    assert chosen(Wish(1, repetition_penalty=2.0), logits, [2]) == {3}
    assert chosen(Wish(1, bias=((0, 100.0),)), logits) == {0}
    assert chosen(Wish(1, bias=((2, -100.0), (3, -100.0))), logits) == {1}


def test_sampling_is_limited_to_the_allowed_tokens():
    logits = [1.0, 1.1, 1.2, 1.3]
    assert chosen(Wish(1, 2.0), logits, times=60) == {0, 1, 2, 3}
    assert chosen(Wish(1, 2.0, top_k=2), logits, times=60) == {2, 3}
    assert chosen(Wish(1, 2.0, top_p=0.5), logits, times=60) == {2, 3}
    assert chosen(Wish(1, 1.0, min_p=0.85), logits, times=60) == {2, 3}
    assert chosen(Wish(1, 1.0), [float("-inf"), 3.0, float("-inf")], times=20) == {1}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("dyprag.serving").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("dyprag.serving").setLevel(logging.NOTSET)
    assert not [thread for thread in threading.enumerate() if thread.name == "engine"]
