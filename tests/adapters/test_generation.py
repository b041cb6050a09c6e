"""Generation, likelihoods and embeddings: batching does not change results, and every row has its own adapter."""

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TEXTS, make_tiny_model, random_adapters
from hypothesis import given
from hypothesis import strategies as st

from dyprag.adapters import embedding, sharing
from dyprag.adapters.embedding import embed
from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.injection import inject
from dyprag.adapters.likelihood import likelihoods
from dyprag.adapters.sharing import common_prefix
from dyprag.model.base import BaseModel, load_model
from dyprag.model.batches import alike
from dyprag.model.prompts import question_prompt

GREEDY = Sampling(8)
NEVER, ALWAYS = 10**9, 1  # minimum length of a shared prefix


@pytest.fixture(scope="module")
def base(lively: BaseModel) -> BaseModel:
    return lively


@pytest.fixture(scope="module")
def prompts(base: BaseModel) -> list[list[int]]:
    """Prompts of different lengths with a common prefix."""
    questions = ["Who?", "Which river does it cross?", "Who built the Ostrel lamp, and when?", "W", "In which year?"]
    return [question_prompt(base.tokenizer, question, [*TEXTS.values()]) for question in questions]


@torch.no_grad()
def greedy(base: BaseModel, prompt: list[int], steps: int = 8) -> str:
    """Reference greedy decoding that recomputes the whole sequence for each token."""
    ids = list(prompt)
    for _ in range(steps):
        token = base.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item()
        if token == base.tokenizer.eos_token_id or "\n" in base.tokenizer.decode([token]):
            break
        ids.append(token)
    return base.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip()


@torch.no_grad()
def plain_likelihood(base: BaseModel, prompt: list[int], answer: list[int]) -> float:
    """Compute Σ log p(answer token | preceding tokens) / number of answer tokens."""
    logs = base.model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return sum(logs[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)) / len(answer)


@pytest.mark.parametrize("least", [NEVER, ALWAYS])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_batch_gives_the_same_answers_as_single_prompts(
    base: BaseModel, prompts: list[list[int]], least: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", least)
    answers = generate(base, prompts, GREEDY, batch_size=batch_size)
    assert [answer.text for answer in answers] == [greedy(base, prompt) for prompt in prompts]


@pytest.mark.parametrize("least", [NEVER, ALWAYS])
def test_a_shared_adapter_works_with_a_shared_prefix(
    base: BaseModel, prompts: list[list[int]], least: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", least)
    adapter = random_adapters(base, 1)
    answers = generate(base, prompts, GREEDY, lambda batch: adapter)
    with inject(base, adapter):
        wanted = [greedy(base, prompt) for prompt in prompts]
    assert [answer.text for answer in answers] == wanted
    assert wanted != [greedy(base, prompt) for prompt in prompts]


@pytest.mark.parametrize("least", [NEVER, ALWAYS])
def test_an_adapter_per_row_gives_the_same_answers_as_single_prompts(
    base: BaseModel, prompts: list[list[int]], least: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", least)
    adapters = random_adapters(base, len(prompts))
    answers = generate(base, prompts, GREEDY, adapters.select, batch_size=3)
    wanted = []
    for row, prompt in enumerate(prompts):
        with inject(base, adapters.select([row])):
            wanted.append(greedy(base, prompt))
    assert [answer.text for answer in answers] == wanted


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_questions_about_the_same_document_with_its_adapter_share_what_is_read(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Three documents of two or three questions; gemma's window is shorter than a prompt, so that nothing is shared."""
    base = load_model(str(make_tiny_model(tmp_path / family, family)), "float32", "cpu")
    for name, parameter in base.model.model.layers.named_parameters():
        if name.endswith("proj.weight"):
            parameter.mul_(8)
    if family == "gemma2":
        base.model.config.sliding_window = 64
    monkeypatch.setattr("dyprag.adapters.sharing.PASS_TOKENS", 0)
    adapters, read = random_adapters(base, 3), []
    owners = [0, 1, 0, 2, 1, 2, 0]
    prompts = [
        question_prompt(base.tokenizer, question, [text])
        for question, text in zip("Who? | When? | Where? | Whose? | What is it? | How | Why".split("|"),
                                  [[*TEXTS.values()][owner] for owner in owners], strict=True)
    ]  # fmt: skip
    real = base.model.get_decoder().forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        read.append(kwargs["input_ids"].numel())
        return real(*args, **kwargs)

    monkeypatch.setattr(base.model.get_decoder(), "forward", counting)
    answers = generate(base, prompts, GREEDY, lambda rows: adapters.select([owners[row] for row in rows]))
    tokens_read = sum(count for count in read if count > len(prompts))
    monkeypatch.undo()
    wanted = []
    for owner, prompt in zip(owners, prompts, strict=True):
        with inject(base, adapters.select([owner])):
            wanted.append(greedy(base, prompt))
    assert [answer.text for answer in answers] == wanted
    assert len(set(wanted)) > 3
    alone = len(prompts) * max(map(len, prompts))
    assert tokens_read == alone if family == "gemma2" else tokens_read < 0.6 * alone


WORDS = st.lists(st.integers(0, 2), min_size=1, max_size=9)


@given(st.lists(st.tuples(WORDS, st.integers(0, 2)), min_size=1, max_size=9), st.integers(0, 5))
def test_a_plan_reads_every_prompt_with_its_adapter_and_at_most_as_much_as_without_sharing(
    rows: list[tuple[list[int], int]], price: int
):
    prompts, adapters = [prompt for prompt, _ in rows], [adapter for _, adapter in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "MIN_SHARED_PREFIX", 1)
        patch.setattr(sharing, "PASS_TOKENS", price)
        passes = sharing.plan(prompts, adapters)
    read: list[list[int]] = []
    owners: list[int] = []
    for each in passes:
        parents = each.parents or range(len(each.tokens))
        before = [read[parent] if each.parents else [] for parent in parents]
        if each.parents:
            assert [owners[parent] for parent in parents] == [adapters[index] for index in each.prompts]
        read = [[*one, *new] for one, new in zip(before, each.tokens, strict=True)]
        owners = [adapters[index] for index in each.prompts]
        assert all(prompts[index][: len(row)] == row for index, row in zip(each.prompts, read, strict=True))
    assert read == prompts
    assert all(passes[0].tokens)
    assert all(passes[-1].tokens)
    tokens = sum(len(each.tokens) * each.width for each in passes)
    assert tokens <= len(prompts) * max(map(len, prompts))


def test_examples_and_passages_are_read_once_each():
    """16 questions about 4 documents, after the same examples: 300 + 4·200 + 16·10 tokens."""
    prompts = [[1] * 300 + [2 + document] * 200 + [9 + question] * 10 for document in range(4) for question in range(4)]
    passes = sharing.plan(prompts, [0] * 16)
    assert [(len(each.tokens), each.width) for each in passes] == [(1, 300), (4, 200), (16, 10)]
    different = sharing.plan(prompts, [row // 4 for row in range(16)])
    assert [(len(each.tokens), each.width) for each in different] == [(4, 500), (16, 10)]
    assert sharing.plan(prompts, list(range(16))) == sharing.whole(prompts)


def test_a_repetition_penalty_counts_the_prompt_and_no_padding(
    base: BaseModel, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(base.model.generation_config, "repetition_penalty", 3.0)
    monkeypatch.setattr("dyprag.adapters.sharing.PASS_TOKENS", 0)
    apart = [generate(base, [prompt], GREEDY)[0] for prompt in prompts]
    usual = base.tokenizer.pad_token
    base.tokenizer.pad_token = base.tokenizer.convert_ids_to_tokens(apart[1].ids[0])  # one that the model wants to say
    try:
        together = generate(base, prompts, GREEDY)
    finally:
        base.tokenizer.pad_token = usual
    assert [answer.ids for answer in together] == [answer.ids for answer in apart]


def test_the_answers_come_in_the_order_of_the_prompts(base: BaseModel, prompts: list[list[int]]):
    forward = generate(base, prompts, GREEDY, batch_size=2)
    backward = generate(base, prompts[::-1], GREEDY, batch_size=2)
    assert [answer.text for answer in backward] == [answer.text for answer in forward][::-1]
    assert len({answer.text for answer in forward}) > 1
    assert generate(base, [], GREEDY) == []


@pytest.fixture
def parrot(tiny_model: str, tmp_path: Path) -> BaseModel:
    """A model that generates 'Osk', a line break, 'Reil' and the end token after the character 'Q'."""
    base = load_model(str(shutil.copytree(tiny_model, tmp_path / "parrot")), "float32", "cpu")
    embedding, head = base.model.get_input_embeddings().weight, base.model.get_output_embeddings().weight
    for layer in base.model.model.layers:  # only the embedding of the last token reaches the head
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    chain = base.tokenizer("QOsk\nReil")["input_ids"] + [base.tokenizer.eos_token_id]
    assert len(set(chain)) == len(chain)
    head.zero_()
    for token, following in pairwise(chain):
        head[following] = embedding[token] / embedding[token].norm()
    return base


def test_an_answer_ends_at_a_line_break_or_at_the_end_token(parrot: BaseModel):
    prompts = [parrot.tokenizer(text)["input_ids"] for text in ("Q", "My Q")]
    osk, reil = (len(parrot.tokenizer(text)["input_ids"]) for text in ("Osk", "Reil"))
    for answer in generate(parrot, prompts, Sampling(30)):
        assert (answer.text, answer.tokens) == ("Osk", osk)
    for answer in generate(parrot, prompts, Sampling(30), stop_at_newline=False):
        assert (answer.text, answer.tokens) == ("Osk\nReil", osk + 1 + reil)
    assert [answer.tokens for answer in generate(parrot, prompts, Sampling(1))] == [1, 1]


def test_sampling_is_repeatable_by_its_seed_and_leaves_the_global_seed_alone(base: BaseModel, prompts: list[list[int]]):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, again, other = (generate(base, prompts, Sampling(8, 1.5, 50, seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    texts = [[answer.text for answer in answers] for answers in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("least", [NEVER, ALWAYS])
def test_likelihoods_equal_a_plain_computation(
    base: BaseModel, prompts: list[list[int]], least: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", least)
    answers = [
        base.tokenizer(text)["input_ids"] for text in (" Greta Olmsted.", " Osk.", " 1911.", " x", " 24 metres.")
    ]
    wanted = [plain_likelihood(base, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    for size in (1, 2, 32):
        assert likelihoods(base, prompts, answers, batch_size=size) == pytest.approx(wanted, abs=1e-4)
    assert max(wanted) < 0


@pytest.mark.parametrize("least", [NEVER, ALWAYS])
def test_likelihoods_of_one_prompt_with_several_answers(base: BaseModel, least: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", least)
    prompt, answers = [5, 6, 7, 8], [[9], [10, 11, 12], [13, 14]]
    wanted = [plain_likelihood(base, prompt, answer) for answer in answers]
    assert likelihoods(base, [prompt] * 3, answers) == pytest.approx(wanted, abs=1e-4)


def test_a_common_prefix_leaves_at_least_one_token_of_each_prompt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dyprag.adapters.sharing.MIN_SHARED_PREFIX", 2)
    assert common_prefix([[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4, 6]]) == 3
    assert common_prefix([[1, 2, 3], [1, 2, 3, 4]]) == 2
    assert common_prefix([[1, 2, 3], [1, 2, 3]]) == 2
    assert common_prefix([[1, 2], [1, 3]]) == 0  # too short to be worth it
    assert common_prefix([[1, 2, 3]]) == 0


def test_embedding_uses_smaller_batches_when_memory_runs_out(base: BaseModel, monkeypatch: pytest.MonkeyPatch):
    """Raises the allocator's own error above a certain size, as with little memory."""
    texts, sizes, real = [*TEXTS.values()] * 3, [], embedding._last_states
    wanted = embed(base, texts)

    def limited(model: BaseModel, rows: list[list[int]]) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > most:
            torch.empty(2**60)
        return real(model, rows)

    monkeypatch.setattr("dyprag.adapters.embedding._last_states", limited)
    most = 2
    torch.testing.assert_close(embed(base, texts), wanted, atol=1e-5, rtol=0)
    assert sizes[0] == len(texts)
    assert max(sizes[-4:]) <= 2
    most = 0
    with pytest.raises(RuntimeError, match="memory"):
        embed(base, texts)


@pytest.mark.parametrize("batch_tokens", [1, 60, 2048])
def test_an_embedding_is_the_last_hidden_state_at_the_last_token(base: BaseModel, batch_tokens: int):
    texts = [*TEXTS.values(), "Osk"]
    vectors = embed(base, texts, batch_tokens)
    assert vectors.shape == (len(texts), base.hidden)
    assert vectors.dtype == torch.float32
    for text, vector in zip(texts, vectors, strict=True):
        ids = torch.tensor([base.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            states = base.model(input_ids=ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(vector, states[-1][0, -1], atol=1e-5, rtol=0)


@given(lengths=st.lists(st.integers(1, 3000), max_size=60), size=st.integers(1, 20))
def test_batches_contain_every_prompt_once_with_little_padding(lengths: list[int], size: int):
    batches = alike(lengths, size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= size
        longest, tokens = max(lengths[i] for i in batch), sum(lengths[i] for i in batch)
        assert longest * len(batch) - tokens <= max(512, 0.25 * longest * len(batch))


def test_prompts_of_similar_length_fill_their_batches():
    assert [len(batch) for batch in alike([100] * 40, 16)] == [16, 16, 8]
    assert alike([2000, 10, 12], 16) == [[1, 2], [0]]
