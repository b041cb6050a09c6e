"""Stage 2's losses, each against a plain computation, and the training over them."""

from collections import Counter

import pytest
import torch

from dyprag.alignment import Pair, alignment_loss, alignment_steps, train_translator
from dyprag.config import TranslatorSettings
from dyprag.lora import Adapters, initial_adapters, inject
from dyprag.models import PROJECTIONS, BaseModel, load_model
from dyprag.parametrize import Sample
from dyprag.translator import Translator

LENGTHS = ((9, 14, 6), (21, 5), (12, 12, 12, 17))  # tokens of each sample of three documents


@pytest.fixture(scope="module")
def base(tiny_model: str) -> BaseModel:
    return load_model(tiny_model, "float32", "cpu")


@pytest.fixture(scope="module")
def pairs(base: BaseModel) -> list[Pair]:
    """Three documents with random embeddings, adapters and samples of unlike length."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for lengths in LENGTHS:
        shapes = initial_adapters(base, 2, 32, 0)
        a, b = (
            {p: 0.05 * torch.randn(t.shape, generator=generator) for p, t in half.items()}
            for half in (shapes.a, shapes.b)
        )
        samples = [Sample(torch.randint(3, 400, (n,), generator=generator).tolist(), n // 2) for n in lengths]
        made.append(Pair(torch.randn(base.hidden, generator=generator), Adapters(a, b, shapes.scale), samples))
    return made


def settings(**given) -> TranslatorSettings:
    plain = {"width": 4, "residual": False, "init_std": 0.05, "learning_rate": 1e-3, "epochs": 1, "batch_size": 1}
    return TranslatorSettings(**plain | given)


def translator_for(base: BaseModel) -> Translator:
    return Translator.for_model(base, settings(), 2, 32, 0)


@torch.no_grad()
def by_hand(base: BaseModel, translator: Translator, pairs: list[Pair], samples: list[Sample]) -> tuple[float, ...]:
    """L_pred, L_mse and L_kl of a batch, one sample at a time and so without padding."""
    crosses, squares, divergences = [], [], []
    for pair, sample in zip(pairs, samples, strict=True):
        generated, ids = translator(pair.embedding[None]), torch.tensor([sample.ids])
        with inject(base, generated):
            ours = base.model(input_ids=ids).logits[0].double().log_softmax(-1)
        with inject(base, pair.adapter):
            target = base.model(input_ids=ids).logits[0].double().log_softmax(-1)
        crosses += [-ours[place - 1, sample.ids[place]].item() for place in range(1, len(sample.ids))]
        divergences.append((target.exp() * (target - ours)).sum().item())
        squares.append(
            sum(
                (theirs[p][0, layer] - mine[p][0, layer]).square().mean().item()
                for theirs, mine in ((pair.adapter.a, generated.a), (pair.adapter.b, generated.b))
                for p in PROJECTIONS
                for layer in range(base.layers)
            )
        )
    return sum(crosses) / len(crosses), sum(squares) / len(squares), sum(divergences) / len(divergences)


@pytest.mark.parametrize("rows", [[(0, 0)], [(0, 1), (1, 1), (2, 3)]])
def test_each_loss_equals_a_plain_computation(base: BaseModel, pairs: list[Pair], rows: list[tuple[int, int]]):
    translator = translator_for(base)
    chosen = [pairs[p] for p, _ in rows], [pairs[p].samples[s] for p, s in rows]
    losses, total = alignment_loss(base, translator, *chosen, settings())
    pred, mse, kl = by_hand(base, translator, *chosen)
    assert losses.pred == pytest.approx(pred, rel=1e-4)
    assert losses.mse == pytest.approx(mse, rel=1e-4)
    assert losses.kl == pytest.approx(kl, rel=1e-3)
    assert kl > 0
    assert losses.total == pytest.approx(1.0 * pred + 100 * mse + 0.01 * kl, rel=1e-4)
    assert total.item() == losses.total


def test_nothing_is_lost_when_the_translator_gives_the_trained_adapter(base: BaseModel, pairs: list[Pair]):
    translator = translator_for(base)
    with torch.no_grad():
        generated = translator(pairs[0].embedding[None])
    losses, _ = alignment_loss(
        base, translator, [Pair(pairs[0].embedding, generated, ())], [pairs[0].samples[0]], settings()
    )
    assert losses.mse == pytest.approx(0, abs=1e-12)
    assert losses.kl == pytest.approx(0, abs=1e-5)


def gradients(base: BaseModel, pairs: list[Pair], given: TranslatorSettings) -> tuple[list[torch.Tensor], float]:
    translator = translator_for(base)
    losses, total = alignment_loss(base, translator, pairs, [pair.samples[0] for pair in pairs], given)
    total.backward()
    return [parameter.grad for parameter in translator.parameters()], losses.total


@pytest.mark.parametrize("dropped", ["pred", "mse", "kl"])
def test_a_weight_of_zero_removes_its_part_and_nothing_else(base: BaseModel, pairs: list[Pair], dropped: str):
    weights = {"lambda_pred": 1.0, "lambda_mse": 100.0, "lambda_kl": 0.5}
    name = f"lambda_{dropped}"
    whole, total = gradients(base, pairs, settings(**weights))
    without, rest = gradients(base, pairs, settings(**weights | {name: 0.0}))
    only, part = gradients(base, pairs, settings(**{w: v if w == name else 0.0 for w, v in weights.items()}))
    assert part > 0
    assert rest + part == pytest.approx(total, rel=1e-5)
    for all_three, two, one in zip(whole, without, only, strict=True):
        torch.testing.assert_close(two + one, all_three, atol=1e-5, rtol=1e-3)


def test_only_the_translator_gets_gradients(base: BaseModel, pairs: list[Pair]):
    grads, _ = gradients(base, pairs, settings())
    assert all(grad is not None for grad in grads)
    assert any(grad.any() for grad in grads)
    assert all(parameter.grad is None for parameter in base.model.parameters())
    assert all(tensor.grad is None for pair in pairs for tensor in pair.adapter.tensors().values())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_training_lowers_the_total(base: BaseModel, pairs: list[Pair], batch_size: int):
    translator, told = translator_for(base), []
    given = settings(epochs=10, batch_size=batch_size, learning_rate=3e-3)
    curve = train_translator(base, translator, pairs, given, lambda *step: told.append(step))
    epoch = len(curve) // 10
    first, last = (sum(losses.total for losses in part) / epoch for part in (curve[:epoch], curve[-epoch:]))
    assert last < 0.9 * first
    assert [step for step, _, _ in told] == list(range(1, len(curve) + 1))
    assert {steps for _, steps, _ in told} == {len(curve)}
    assert [losses for _, _, losses in told] == curve


def test_the_same_seed_gives_the_same_training(base: BaseModel, pairs: list[Pair]):
    curves = [train_translator(base, translator_for(base), pairs, settings(seed=seed)) for seed in (1, 1, 2)]
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_every_sample_is_used_once_an_epoch(pairs: list[Pair], batch_size: int):
    steps = alignment_steps(pairs, settings(epochs=2, batch_size=batch_size))
    used = Counter(item for step in steps for item in step)
    assert used == {(p, s): 2 for p, lengths in enumerate(LENGTHS) for s in range(len(lengths))}
    assert max(map(len, steps)) <= batch_size
    epoch = [item for step in steps[: len(steps) // 2] for item in step]
    assert len(set(epoch)) == len(epoch)


def test_the_samples_of_a_document_can_be_capped(pairs: list[Pair]):
    steps = alignment_steps(pairs, settings(samples_per_document=2, epochs=3))
    used = Counter(pair for step in steps for pair, _ in step)
    assert used == {0: 6, 1: 6, 2: 6}
    one = alignment_steps(pairs, settings(samples_per_document=1, epochs=20))
    assert {sample for step in one for pair, sample in step if pair == 2} == {0, 1, 2, 3}  # drawn anew in every epoch
