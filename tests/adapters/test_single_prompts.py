"""A prompt that is read by itself: what was read before is not read again, and the answer is the same."""

import random

import pytest
import torch
from conftest import FAMILIES, make_tiny_model, random_adapters

from dyprag.adapters.decoding import Decoding
from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.lora import Adapters
from dyprag.model.base import BaseModel, keeping_prefixes, load_model

PAGE = random.Random(3).choices(range(3, 300), k=70)
QUESTIONS = ([5, 9, 33], [7, 7], [250, 14, 60], [5, 9, 33, 8])


def read(base: BaseModel, prompt: list[int], adapter: Adapters | None) -> tuple[torch.Tensor, int]:
    """The logits after a prompt and two more tokens, and how many tokens the model has computed."""
    computed = 0

    def count(module: torch.nn.Module, inputs: tuple[()], given: dict[str, torch.Tensor]) -> None:
        nonlocal computed
        computed += given["input_ids"].shape[1]

    hook = base.model.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    with torch.inference_mode():
        state = Decoding(base, [prompt], adapter)
        hook.remove()
        state.advance(torch.tensor([11]))
        state.advance(torch.tensor([12]))
    return state.logits, computed


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_read_before_is_not_read_again(family: str, tmp_path_factory: pytest.TempPathFactory):
    base = load_model(str(make_tiny_model(tmp_path_factory.mktemp(family) / "tiny", family)), "float32", "cpu")
    slides = family.startswith("gemma")  # states that have left the window are gone, so such a model reads all
    keeping = keeping_prefixes(base)
    for adapter in (None, random_adapters(base, seed=1), random_adapters(base, seed=2)):
        for number, question in enumerate(QUESTIONS):
            prompt = [*PAGE, *question]
            alone, whole = read(base, prompt, adapter)
            logits, computed = read(keeping, prompt, adapter)
            assert torch.allclose(logits, alone, atol=1e-5)
            assert whole == len(prompt)
            assert computed == (len(prompt) if slides or number == 0 else len(prompt) - len(PAGE) - 3 * (number == 3))


def test_answers_are_those_of_a_model_that_keeps_nothing(lively: BaseModel):
    keeping = keeping_prefixes(lively)
    draw = random.Random(1)
    for _ in range(12):
        prompt = [*PAGE[: draw.randrange(20, 70)], *draw.choices(range(3, 300), k=draw.randrange(1, 20))]
        adapter = draw.choice([None, random_adapters(lively, seed=1), random_adapters(lively, seed=2)])
        said = [
            generate(base, [prompt], Sampling(12), lambda _, a=adapter: a, stop_at_newline=False)[0].ids
            for base in (lively, keeping)
        ]
        assert said[0] == said[1]


def test_equal_matrices_have_one_digest(lively: BaseModel):
    one, other = random_adapters(lively, seed=1), random_adapters(lively, seed=2)
    assert one.digest() == one.copy().digest()
    half = one.times(0.5)
    assert half is not None
    assert len({one.digest(), other.digest(), half.digest()}) == 3
