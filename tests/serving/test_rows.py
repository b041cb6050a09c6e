"""Rows that are written together: each says what it would say by itself, whoever joins and leaves."""

import random

import pytest
import torch
from conftest import FAMILIES, make_tiny_model, random_adapters

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters
from dyprag.model.base import BaseModel, load_model
from dyprag.serving.rows import Rows

NEW = 24


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny model of each family, its weights large enough that what was said before matters."""
    folder = make_tiny_model(tmp_path_factory.mktemp(request.param) / "tiny", request.param)
    config = folder / "config.json"
    # a window shorter than the texts here, where the family has one
    config.write_text(config.read_text().replace('"sliding_window": 4096', '"sliding_window": 16'))
    base = load_model(str(folder), "float32", "cpu")
    for name, parameter in base.model.model.layers.named_parameters():
        if name.endswith("proj.weight"):
            parameter.mul_(8)
    return base


def alone(base: BaseModel, prompt: list[int], adapter: Adapters | None) -> list[int]:
    """What the batch generator writes for one prompt."""
    (made,) = generate(base, [prompt], Sampling(NEW), lambda _: adapter, 1, stop_at_newline=False)
    return list(made.ids)


def together(base: BaseModel, prompts: list[list[int]], adapters: list[Adapters | None], seed: int) -> list[list[int]]:
    """What rows that join and leave at random write; a row leaves after NEW tokens, or at its end token."""
    draw, rows = random.Random(seed), Rows(base)
    waiting, inside = list(range(len(prompts))), list[int]()
    written: list[list[int]] = [[] for _ in prompts]
    while waiting or inside:
        if waiting and (not inside or draw.random() < 0.3):
            new = [waiting.pop(0) for _ in range(min(len(waiting), draw.randint(1, 3)))]
            rows.join([prompts[index] for index in new], [adapters[index] for index in new])
            inside += new
        tokens = rows.logits.argmax(-1).tolist()
        for row in reversed(range(len(inside))):
            mine = written[inside[row]]
            ended = tokens[row] == base.tokenizer.eos_token_id
            if not ended:
                mine.append(tokens[row])
            if ended or len(mine) == NEW:
                rows.leave(row)
                tokens[row], inside[row] = tokens[-1], inside[-1]
                tokens.pop(), inside.pop()
        assert len(rows) == len(inside)
        if inside:
            rows.advance(tokens)
    return written


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_row_says_what_it_would_say_alone(family: BaseModel, seed: int):
    draw = random.Random(seed)
    prompts = [[draw.randrange(3, 300) for _ in range(draw.choice([1, 3, 20, 90]))] for _ in range(9)]
    adapters = [
        random_adapters(family, 1, draw.choice([1, 2, 5]), n) if draw.random() < 0.7 else None for n in range(9)
    ]
    expected = [alone(family, prompt, adapter) for prompt, adapter in zip(prompts, adapters, strict=True)]
    assert together(family, prompts, adapters, seed) == expected
    assert len({tuple(ids) for ids in expected}) > 5


def test_adapters_are_the_rows_own(lively: BaseModel):
    prompts, adapters = [[5, 9, 33, 70]] * 3, [random_adapters(lively, 1, 2, seed) for seed in range(3)]
    rows = Rows(lively)
    rows.join(prompts, adapters)
    assert not torch.allclose(rows.logits[0], rows.logits[1], atol=1e-3)
    rows.leave(0)
    assert len(rows) == 2
    one = Rows(lively)
    one.join([prompts[0]], [adapters[2]])
    torch.testing.assert_close(rows.logits[0], one.logits[0], atol=1e-4, rtol=1e-4)


def test_what_left_rows_needed_is_let_go(lively: BaseModel):
    rows = Rows(lively)
    rows.join([[7] * 400, [5, 9, 33]], [None, None])
    rows.leave(0)
    for _ in range(500):
        rows.advance([11])
    table = rows._layers[0]
    assert table.get_seq_length() == 503
    assert table._tables[0].shape[2] < 1000


def test_a_long_row_takes_no_room_for_rows_that_have_left_and_leaves_none_behind(lively: BaseModel):
    draw = random.Random(7)
    long, short = ([draw.randrange(3, 300) for _ in range(length)] for length in (1500, 20))
    expected = {length: alone(lively, prompt, None) for length, prompt in ((1500, long), (20, short))}

    def size() -> tuple[int, int]:
        rows_, _, tokens, _ = rows._layers[0]._tables[0].shape
        return rows_, tokens

    rows = Rows(lively)
    rows.join([short] * 16, [None] * 16)
    for row in reversed(range(1, 16)):
        rows.leave(row)
    rows.join([long], [None])
    assert size()[0] == 2
    written: dict[int, list[int]] = {1500: [], 20: []}
    for step in range(NEW):
        tokens = rows.logits.argmax(-1).tolist()
        written[20].append(tokens[0])
        if step < NEW // 2:
            written[1500].append(tokens[1])
        elif step == NEW // 2:
            rows.leave(1)
        rows.advance(tokens[: len(rows)])
    assert size()[1] < 500
    assert written[20][: len(expected[20])] == expected[20]
    assert written[1500] == expected[1500][: NEW // 2]
