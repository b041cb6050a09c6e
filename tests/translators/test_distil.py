"""Steps of training on documents with questions: losses, trees and recited answers equal plain forward passes."""

from dataclasses import fields

import pytest
import torch
from conftest import random_adapters
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lessons import KINDS, LESSONS, given_settings, make
from torch.nn.functional import cross_entropy, kl_div

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters, merge
from dyprag.adapters.samples import Sample
from dyprag.adapters.trees import Tree, answer_states, build_tree, recited
from dyprag.corpora.documents import QAPair
from dyprag.model.base import BaseModel
from dyprag.model.prompts import training_sample
from dyprag.translators.distil import Library, learn, lesson_loss, rate
from dyprag.translators.lesson_steps import Steps, documents_together, draws


@torch.no_grad()
def answer_logits(
    base: BaseModel, question: QAPair, adapter: Adapters | None = None, passage: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits that predict an answer's tokens in a plain forward pass, and these tokens."""
    ids, length = training_sample(base.tokenizer, question.question, question.answer, passage)
    with inject(base, adapter):
        found = base.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return found[length - 1 : -1], torch.tensor(ids[length:])


SAMPLES = st.tuples(st.lists(st.integers(3, 300), min_size=1, max_size=9), st.integers(1, 4))
ROWS = st.lists(
    st.tuples(st.lists(st.integers(3, 300), max_size=12), st.lists(SAMPLES, min_size=1, max_size=4)),
    min_size=1, max_size=3,
)  # fmt: skip
RowsDrawn = list[tuple[list[int], list[tuple[list[int], int]]]]


def rows_of(drawn: RowsDrawn) -> list[list[Sample]]:
    """Draw the samples of each row: a common prefix, then their own ids, which end with the answer."""
    return [
        [Sample(front + own + own[:answer], len(front) + len(own)) for own, answer in samples]
        for front, samples in drawn
    ]


@given(drawn=ROWS, adapted=st.booleans())
@hypothesis_settings(max_examples=30)
def test_answers_in_a_tree_equal_those_of_single_samples(lively: BaseModel, drawn: RowsDrawn, adapted: bool):
    rows = rows_of(drawn)
    adapters = random_adapters(lively, len(rows)) if adapted else None
    tree = build_tree(lively, rows)
    with torch.no_grad():
        states = answer_states(lively, tree, adapters)
        alone = []
        for index, sample in ((index, sample) for index, row in enumerate(rows) for sample in row):
            with inject(lively, adapters.select([index]) if adapters else None):
                found = lively.model.model(input_ids=torch.tensor([sample.ids]), use_cache=False).last_hidden_state[0]
            alone.append(found[sample.prompt_length - 1 : len(sample.ids) - 1])
    torch.testing.assert_close(states, torch.cat(alone), atol=1e-4, rtol=1e-4)


@given(drawn=ROWS)
@hypothesis_settings(max_examples=30)
def test_a_tree_lists_the_answer_tokens_in_order(base: BaseModel, drawn: RowsDrawn):
    samples = [sample for row in rows_of(drawn) for sample in row]
    tree = build_tree(base, rows_of(drawn))
    answers = [sample.ids[sample.prompt_length :] for sample in samples]
    assert tree.targets.tolist() == [token for answer in answers for token in answer]
    assert tree.samples.tolist() == [number for number, answer in enumerate(answers) for _ in answer]
    before = [token for sample in samples for token in sample.ids[sample.prompt_length - 1 : -1]]
    assert tree.ids.flatten()[tree.answer_positions].tolist() == before
    at = [place for sample in samples for place in range(sample.prompt_length - 1, len(sample.ids) - 1)]
    assert tree.positions.flatten()[tree.answer_positions].tolist() == at


def test_a_common_prefix_is_stored_once(base: BaseModel):
    front = list(range(20, 40))
    row = [Sample([*front, 50 + number, 60], 21) for number in range(4)]
    assert build_tree(base, [row]).ids.shape == (1, 20 + 4 * 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 2.0, 3.0)])
def test_the_losses_of_a_step_equal_plain_forward_passes(
    lively: BaseModel, kind: str, parts: tuple[float, float, float]
):
    """The first step's losses equal torch's cross-entropy and KL of full logits."""
    names = ("lambda_pred", "lambda_teacher", "lambda_unrelated")
    settings = given_settings(kind=kind, steps=1, unrelated=0.7, **dict(zip(names, parts, strict=True)))
    translator = make(lively, settings)
    if kind == "attentive":
        with torch.no_grad():
            translator.gains.mul_(10)  # adapters of a new translator are weak
    rows = draws(LESSONS, settings, 1)
    assert any(row.other for row in rows)
    with torch.no_grad():
        passages = [LESSONS[row.lesson].document.passage for row in rows]
        adapters = translator.translate(translator.read(lively, passages))
    own: list[torch.Tensor] = []
    shown: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    foreign: list[torch.Tensor] = []
    plain: list[torch.Tensor] = []
    for index, row in enumerate(rows):
        adapter = adapters.select([index])
        for pair in (LESSONS[row.lesson].pairs[i] for i in row.pairs):
            found, targets = answer_logits(lively, pair, adapter)
            own.append(found)
            wanted.append(targets)
            shown.append(answer_logits(lively, pair, passage=passages[index])[0])
        if row.other:
            pair = LESSONS[row.other[0]].pairs[row.other[1]]
            foreign.append(answer_logits(lively, pair, adapter)[0])
            plain.append(answer_logits(lively, pair)[0])

    def divergence(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> float:
        logs, aims = (torch.cat(x).log_softmax(-1) for x in (student, teacher))
        return float(kl_div(logs, aims, reduction="batchmean", log_target=True))

    pred = float(cross_entropy(torch.cat(own), torch.cat(wanted)))
    near, away = divergence(own, shown), divergence(foreign, plain)
    assert min(near, away) > 1e-4
    (losses,) = learn(lively, translator, LESSONS, settings)
    assert losses.pred == pytest.approx(pred, rel=1e-3)
    assert losses.unrelated == pytest.approx(away, rel=2e-2, abs=1e-5)
    if settings.lambda_teacher:
        assert losses.teacher == pytest.approx(near, rel=2e-2, abs=1e-5)
    total = sum(part * loss for part, loss in zip(parts, (pred, near, away), strict=True))
    assert losses.total == pytest.approx(total, rel=1e-2, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_with_documents_together_each_row_has_the_sum_of_its_own_adapter_and_the_next_ones(
    lively: BaseModel, kind: str
):
    settings = given_settings(kind=kind, steps=1, unrelated=0.0, together=1.0, most_together=2, documents=3)
    assert documents_together(settings, 1) == 2
    translator = make(lively, settings)
    rows = draws(LESSONS, settings, 1)
    with torch.no_grad():
        passages = [LESSONS[row.lesson].document.passage for row in rows]
        adapters = translator.translate(translator.read(lively, passages))
    found = []
    for index, row in enumerate(rows):
        summed = merge(adapters.select([index, (index + 1) % 3]), "sum")
        found += [answer_logits(lively, LESSONS[row.lesson].pairs[i], summed) for i in row.pairs]
    plain = cross_entropy(torch.cat([logits for logits, _ in found]), torch.cat([targets for _, targets in found]))
    (losses,) = learn(lively, translator, LESSONS, settings)
    assert losses.pred == pytest.approx(float(plain), rel=1e-4)


def test_the_number_of_documents_together_is_drawn_for_each_step_and_leaves_the_rows_as_they_were():
    settings, alone = given_settings(together=0.5, most_together=3, documents=4), given_settings(documents=4)
    drawn = [documents_together(settings, step) for step in range(1, 200)]
    assert {1, 2, 3} == set(drawn)
    assert 0.4 < sum(number > 1 for number in drawn) / len(drawn) < 0.6
    assert {documents_together(alone, step) for step in range(1, 200)} == {1}
    assert [draws(LESSONS, settings, step) for step in (1, 2)] == [draws(LESSONS, alone, step) for step in (1, 2)]
    assert {documents_together(given_settings(together=1.0, documents=1), step) for step in range(1, 20)} == {1}


def test_a_zero_adapter_answers_unrelated_questions_like_the_base_model(lively: BaseModel):
    settings = given_settings(steps=1)
    translator = make(lively, settings)
    with torch.no_grad():
        translator.gains.zero_()
    (losses,) = learn(lively, translator, LESSONS, settings)
    assert losses.unrelated == pytest.approx(0, abs=1e-5)
    rows = draws(LESSONS, settings, 1)
    found = [answer_logits(lively, LESSONS[row.lesson].pairs[i]) for row in rows for i in row.pairs]
    plain = cross_entropy(torch.cat([x for x, _ in found]), torch.cat([y for _, y in found]))
    assert losses.pred == pytest.approx(float(plain), rel=1e-4)


def test_the_learning_rate_warms_up_stays_constant_and_decays():
    settings = given_settings(steps=100, warmup=10, decay=0.2, learning_rate=0.5)
    rates = [rate(settings, step) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert rates[10:81] == pytest.approx([0.5] * 71)
    assert rates[80:] == pytest.approx([0.5 * (20 - step) / 20 for step in range(20)])
    assert rates[-1] == pytest.approx(0.025)


@given(steps=st.integers(1, 60), warmup=st.integers(0, 80), decay=st.floats(0, 1))
def test_the_learning_rate_is_positive_and_never_above_the_one_set(steps: int, warmup: int, decay: float):
    settings = given_settings(steps=steps, warmup=warmup, decay=decay, learning_rate=0.5)
    assert all(0 < rate(settings, step) <= 0.5 for step in range(1, steps + 1))


@given(lessons=st.integers(1, 9), step=st.integers(1, 999), seed=st.integers(0, 9), documents=st.integers(1, 8))
def test_draws_depend_only_on_seed_and_step_and_pair_different_lessons(
    lessons: int, step: int, seed: int, documents: int
):
    some = [LESSONS[number % 3] for number in range(lessons)]
    settings = given_settings(seed=seed, documents=documents)
    rows = draws(some, settings, step)
    draws(some, settings, step + 1)
    assert draws(some, settings, step) == rows
    assert len(rows) == documents
    for row in rows:
        assert sorted(row.pairs) == [0, 1]
        assert (row.other is None) == (lessons == 1)
        if row.other:
            assert row.other[0] != row.lesson
            assert some[row.other[0]].pairs[row.other[1]]


def test_other_steps_and_seeds_draw_other_rows_and_all_lessons():
    settings = given_settings(questions=1, documents=2)
    steps = [draws(LESSONS, settings, step) for step in range(1, 40)]
    assert {row.lesson for rows in steps for row in rows} == {0, 1, 2}
    assert {row.pairs for rows in steps for row in rows} == {(0,), (1,)}
    assert steps != [draws(LESSONS, given_settings(questions=1, documents=2, seed=1), step) for step in range(1, 40)]
    assert all(row.other is None for row in draws(LESSONS, given_settings(unrelated=0.0), 1))


@pytest.mark.parametrize("teacher", [0.0, 1.0])
def test_steps_prepared_by_worker_processes_are_the_same(base: BaseModel, teacher: float):
    steps = Steps(base.tokenizer, LESSONS, given_settings(documents=3, lambda_teacher=teacher, unrelated=0.5, steps=6))
    loader = torch.utils.data.DataLoader(steps, batch_size=None, sampler=range(2, 6), num_workers=2, prefetch_factor=4)
    for number, made in enumerate(loader, start=2):
        here = steps[number]
        assert (made.lessons, made.together) == (here.lessons, here.together)
        assert torch.equal(made.foreign, here.foreign)
        for name in ("tree", "strangers", "shown"):
            one, other = getattr(made, name), getattr(here, name)
            assert (one is None) == (other is None)
            for field in fields(Tree) if one else ():
                assert torch.equal(getattr(one, field.name), getattr(other, field.name))
    assert number == 5


def test_losses_do_not_depend_on_batched_or_cached_readings(lively: BaseModel):
    settings = given_settings(documents=3)
    translator = make(lively, settings)
    step = Steps(lively.tokenizer, LESSONS, settings)[0]
    found = []
    for together, most in ((1, 9), (9, 9), (1, 1), (2, 0)):
        library = Library(lively, translator, LESSONS)
        library.together, library.most = together, most
        for _ in range(2):
            found.append(lesson_loss(lively, translator, step, settings, library)[1])
            assert len(library.read) == min(most, len(set(step.lessons)))
    for loss in found:
        torch.testing.assert_close(loss, found[0], atol=1e-4, rtol=1e-4)


@given(fronts=st.lists(st.lists(st.integers(3, 300), min_size=2, max_size=9), min_size=1, max_size=3),
       length=st.integers(1, 5), wrong=st.integers(0, 4), adapted=st.booleans())  # fmt: skip
@hypothesis_settings(max_examples=15)
def test_recited_answers_equal_greedy_decoding(
    lively: BaseModel, fronts: list[list[int]], length: int, wrong: int, adapted: bool
):
    adapters = random_adapters(lively, len(fronts)) if adapted else None
    written = generate(
        lively, fronts, Sampling(length), (lambda batch: adapters.select(batch)) if adapters else None,
        stop_at_newline=False,
    )  # fmt: skip
    end = lively.tokenizer.eos_token_id
    answers = [list(x.ids) if len(x.ids) == length else [*x.ids, end] for x in written]
    assume(all(answers))
    rows = []
    for front, answer in zip(fronts, answers, strict=True):
        changed = [*answer]
        changed[wrong % len(answer)] = changed[wrong % len(answer)] + 1 if changed[wrong % len(answer)] < 300 else 5
        rows.append([Sample(front + answer, len(front)), Sample(front + changed, len(front))])
    with_tree = recited(lively, build_tree(lively, rows), adapters)
    assert [right for right, _ in with_tree] == [True, False] * len(fronts)


def test_the_recited_loss_is_the_mean_over_the_answer_tokens(lively: BaseModel):
    pairs = LESSONS[0].pairs
    row = [Sample(*training_sample(lively.tokenizer, pair.question, pair.answer)) for pair in pairs]
    adapter = random_adapters(lively)
    for pair, (_, loss) in zip(pairs, recited(lively, build_tree(lively, [row]), adapter), strict=True):
        assert loss == pytest.approx(float(cross_entropy(*answer_logits(lively, pair, adapter))), rel=1e-4)
