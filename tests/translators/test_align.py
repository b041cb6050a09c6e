"""The losses of stage 2 and their gradients, compared with plain computations, and the samples of its steps."""

from collections import Counter

import pytest
import torch
from alignment import LENGTHS, random_pairs, settings, translator_for

from dyprag.adapters.forward import token_losses
from dyprag.adapters.injection import inject
from dyprag.adapters.samples import Sample
from dyprag.config import TranslatorSettings
from dyprag.model.base import PROJECTIONS, BaseModel
from dyprag.translators.align import Pair, alignment_loss, alignment_steps
from dyprag.translators.hypernetwork import Translator


@pytest.fixture(scope="module")
def pairs(base: BaseModel) -> list[Pair]:
    return random_pairs(base)


@torch.no_grad()
def by_hand(base: BaseModel, translator: Translator, pairs: list[Pair], samples: list[Sample]) -> tuple[float, ...]:
    """Compute L_pred, L_mse and L_kl of a batch sample by sample, without padding."""
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


def test_mse_and_kl_are_zero_for_the_trained_adapter(base: BaseModel, pairs: list[Pair]):
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


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_every_sample_is_used_once_per_epoch(pairs: list[Pair], batch_size: int):
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
    assert {sample for step in one for pair, sample in step if pair == 2} == {0, 1, 2, 3}  # redrawn in every epoch


def test_only_the_first_sample_is_used_if_configured(pairs: list[Pair]):
    used = Counter(item for step in alignment_steps(pairs, settings(samples="first", epochs=2)) for item in step)
    assert used == {(0, 0): 2, (1, 0): 2, (2, 0): 2}


@pytest.mark.parametrize("elements", [1, 10**6])
def test_token_losses_and_their_gradient_equal_autograd(
    base: BaseModel, elements: int, monkeypatch: pytest.MonkeyPatch
):
    """In double precision, with one and several chunks, and with a token without a target."""
    monkeypatch.setattr("dyprag.adapters.forward.CHUNK_ELEMENTS", {"cpu": elements})
    generator = torch.Generator().manual_seed(0)
    tokens = 70  # a chunk has at least 32
    states, teacher = (torch.randn(tokens, base.hidden, dtype=torch.double, generator=generator) for _ in range(2))
    targets = torch.randint(0, 300, (tokens,), generator=generator)
    targets[5] = -1
    weights, kl_weights = (torch.rand(tokens, dtype=torch.double, generator=generator) for _ in range(2))
    head = base.model.get_output_embeddings()
    head.double()
    try:
        states.requires_grad_(True)
        ours = token_losses(base, states, targets, weights, teacher, kl_weights)
        (gradient,) = torch.autograd.grad(3 * ours.total, states)
        logs, aims = head(states).log_softmax(-1), head(teacher).log_softmax(-1)
        cross = torch.nn.functional.cross_entropy(head(states), targets, reduction="none", ignore_index=-1)
        divergence = torch.nn.functional.kl_div(logs, aims, reduction="none", log_target=True).sum(-1)
        plain = (weights * cross).sum() + (kl_weights * divergence).sum()
        (wanted,) = torch.autograd.grad(3 * plain, states)
        torch.testing.assert_close((ours.nll, ours.kl, ours.total), (cross, divergence, plain))
        torch.testing.assert_close(gradient, wanted)
        few = states.detach()[:3].requires_grad_(True)
        assert torch.autograd.gradcheck(
            lambda x: token_losses(base, x, targets[:3], weights[:3], teacher[:3], kl_weights[:3]).total, few
        )
    finally:
        head.float()


def test_the_translators_gradient_equals_finite_differences(base: BaseModel, pairs: list[Pair]):
    """Compare directional derivatives of L_align with central differences."""
    translator, given = translator_for(base), settings()
    rows = [pairs[0], pairs[1], pairs[0]], [pairs[0].samples[0], pairs[1].samples[1], pairs[0].samples[2]]
    _, total = alignment_loss(base, translator, *rows, given)
    total.backward()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator) for p in translator.parameters()]
        slope = sum((d * p.grad).sum().item() for d, p in zip(directions, translator.parameters(), strict=True))
        found = []
        for sign in (1, -1):
            with torch.no_grad():
                for direction, parameter in zip(directions, translator.parameters(), strict=True):
                    parameter += sign * 3e-4 * direction
                found.append(alignment_loss(base, translator, *rows, given)[0].total)
                for direction, parameter in zip(directions, translator.parameters(), strict=True):
                    parameter -= sign * 3e-4 * direction
        assert (found[0] - found[1]) / 6e-4 == pytest.approx(slope, rel=0.03, abs=0.1)
