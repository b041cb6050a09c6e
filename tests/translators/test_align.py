"""The losses of stage 2, compared with plain computations, and their training."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dyprag.adapters.forward import token_losses
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters, initial_adapters
from dyprag.adapters.samples import Sample
from dyprag.config import TranslatorSettings
from dyprag.errors import DypragError, Interrupted
from dyprag.model.base import PROJECTIONS, BaseModel, load_model
from dyprag.runtime import interruption
from dyprag.translators.align import Losses, Pair, alignment_loss, alignment_steps, split_pairs, train_translator
from dyprag.translators.hypernetwork import Translator

LENGTHS = ((9, 14, 6), (21, 5), (12, 12, 12, 17))  # tokens of each sample of three documents


@pytest.fixture(scope="module")
def pairs(base: BaseModel) -> list[Pair]:
    """Three documents with random embeddings, adapters and samples of different lengths."""
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


class Stop(Exception):
    """Raised during training."""


def weights(translator: Translator) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in translator.state_dict().items()}


def stop_at(number: int) -> Callable[[int, int, Losses], None]:
    def on_step(step: int, steps: int, losses: Losses) -> None:
        if step == number:
            raise Stop

    return on_step


def test_a_stopped_training_ends_with_the_same_weights(
    base: BaseModel, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dyprag.translators.training.CHECKPOINT_SECONDS", 0.0)  # after every step
    given = settings(epochs=3, validation=0.3, validate_every=2, patience=50)
    whole, broken = translator_for(base), translator_for(base)
    curve = train_translator(base, whole, pairs, given)
    with pytest.raises(Stop):
        train_translator(base, broken, pairs, given, stop_at(5), tmp_path / "state")
    fresh, steps = translator_for(base), []
    again = train_translator(base, fresh, pairs, given, lambda step, *_: steps.append(step), tmp_path / "state")
    assert steps[0] == 6
    assert again == curve
    for name, tensor in weights(whole).items():
        assert torch.equal(fresh.state_dict()[name], tensor)


def test_an_interrupted_training_loses_no_step(base: BaseModel, pairs: list[Pair], tmp_path: Path):
    given = settings(epochs=3, validation=0.3, validate_every=2, patience=50)  # no checkpoint is due within a minute
    whole = translator_for(base)
    curve = train_translator(base, whole, pairs, given)

    def interrupt(step: int, *_: object) -> None:
        if step == 5:
            interruption.interrupt(passing=True)

    try:
        with pytest.raises(Interrupted):
            train_translator(base, translator_for(base), pairs, given, interrupt, tmp_path / "state")
    finally:
        interruption.renew()
    fresh, steps = translator_for(base), []
    again = train_translator(base, fresh, pairs, given, lambda step, *_: steps.append(step), tmp_path / "state")
    assert steps[0] == 6
    assert again == curve
    for name, tensor in weights(whole).items():
        assert torch.equal(fresh.state_dict()[name], tensor)


def _train_until_killed(model: str, pairs: list[Pair], path: Path) -> None:
    import dyprag.translators.training

    dyprag.translators.training.CHECKPOINT_SECONDS = 0.0
    base = load_model(model, "float32", "cpu")

    def on_step(step: int, steps: int, losses: Losses) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    train_translator(base, translator_for(base), pairs, settings(epochs=2), on_step, path)


def test_a_killed_training_ends_with_the_same_weights(base: BaseModel, pairs: list[Pair], tmp_path: Path):
    process = multiprocessing.get_context("spawn").Process(
        target=_train_until_killed, args=(base.model.config._name_or_path, pairs, tmp_path / "state")
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    whole, resumed, steps = translator_for(base), translator_for(base), []
    curve = train_translator(base, whole, pairs, settings(epochs=2))
    found = train_translator(
        base, resumed, pairs, settings(epochs=2), lambda step, *_: steps.append(step), tmp_path / "state"
    )
    assert steps[0] == 5
    assert [losses.total for losses in found] == pytest.approx([losses.total for losses in curve], rel=1e-6)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, atol=1e-7, rtol=0)


@pytest.mark.parametrize("harm", ["truncated", "of another training", "of other documents", "in another format"])
def test_an_unusable_checkpoint_is_ignored(
    base: BaseModel, pairs: list[Pair], tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch, messages: list[str]
):
    monkeypatch.setattr("dyprag.translators.training.CHECKPOINT_SECONDS", 0.0)
    path, given = tmp_path / "state", settings()
    with pytest.raises(Stop):
        train_translator(base, translator_for(base), pairs, given, stop_at(3), path)
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif harm == "of another training":
        given = settings(learning_rate=1e-4)
    elif harm == "of other documents":
        pairs = [replace(pair, embedding=pair.embedding + 1) for pair in pairs]
    else:
        base = load_model(base.model.config._name_or_path, "bfloat16", "cpu")
    steps: list[int] = []
    train_translator(base, translator_for(base), pairs, given, lambda step, *_: steps.append(step), path)
    assert steps[0] == 1
    assert any("from the beginning" in message for message in messages)


@pytest.mark.parametrize("rate", [1e4, 1e38])
def test_a_diverging_training_is_an_error_and_leaves_no_checkpoint(
    base: BaseModel, pairs: list[Pair], tmp_path: Path, rate: float, monkeypatch: pytest.MonkeyPatch
):
    """It may diverge in the middle, or at the only step, whose loss is still finite."""
    monkeypatch.setattr("dyprag.translators.training.CHECKPOINT_SECONDS", 0.0)
    given = settings(learning_rate=rate, epochs=20) if rate < 1e38 else settings(learning_rate=rate, batch_size=9)
    with pytest.raises(DypragError, match=r"Lower translator\.learning_rate"):
        train_translator(base, translator_for(base), pairs, given, checkpoint=tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


def test_validation_uses_the_same_samples_per_document_as_training(
    base: BaseModel, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
):
    seen: list[Sample] = []
    real = alignment_loss

    def noted(base, translator, rows, samples, given):
        seen.extend(samples)
        return real(base, translator, rows, samples, given)

    monkeypatch.setattr("dyprag.translators.align.alignment_loss", noted)
    train_translator(base, translator_for(base), pairs, settings(samples="first", validation=0.3))
    assert all(any(sample is pair.samples[0] for pair in pairs) for sample in seen)
    assert len(seen) == 3


def test_training_stops_early_and_restores_the_best_weights(base: BaseModel, pairs: list[Pair]):
    given = settings(epochs=40, validation=0.3, validate_every=1, patience=3, learning_rate=0.3)
    translator, seen = translator_for(base), {}
    curve = train_translator(base, translator, pairs, given, lambda step, *_: seen.update({step: weights(translator)}))
    looks = [losses.validation for losses in curve]
    assert len(curve) < len(alignment_steps(pairs, given, split_pairs(3, given)[0]))
    best = looks.index(min(looks))
    assert len(looks) - 1 - best == 3
    for name, tensor in seen[best + 1].items():
        assert torch.equal(translator.state_dict()[name], tensor)


def test_validation_documents_are_not_trained_on_and_one_document_always_is():
    for count in (1, 2, 5, 40):
        kept, aside = split_pairs(count, settings(validation=0.9))
        assert sorted(kept + aside) == list(range(count))
        assert kept
    assert split_pairs(10, settings())[1] == []
    assert len(split_pairs(10, settings(validation=0.25))[1]) == 3
