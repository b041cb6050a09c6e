"""Training a translator on documents and what is asked about them, with no trained adapter as its target (§3.2's L_pred
alone, and context distillation in L_kl's place).

With a translated adapter and *no* passage the base model is to answer what is known to be right, or as the same model
answers with the passage in its prompt; asked about another document, it is to answer as it does without an adapter.
All questions of a document stand in one row, behind the part of the prompt that they share, blind to each other.
"""

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from dyprag.adapters.forward import token_losses
from dyprag.adapters.injection import inject
from dyprag.adapters.lora import Adapters
from dyprag.adapters.samples import Sample
from dyprag.config import LearnSettings
from dyprag.corpora.documents import content_key
from dyprag.errors import DypragError, Interrupted
from dyprag.model.base import BaseModel
from dyprag.model.prompts import question_prompt, training_sample
from dyprag.runtime.threads import usable_cores
from dyprag.translators.checkpoint import CHECKPOINT_SECONDS, load_checkpoint, save_checkpoint
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.protocol import Translating

logger = logging.getLogger("dyprag.distillation")
CALIBRATED = 24  # documents, and questions, that a fresh translator is calibrated on
MOST_READ = 30_000  # readings kept in memory
MOST_HELPERS = 8  # processes that make steps for an accelerator


def calibration_prompts(base: BaseModel, lessons: Sequence[Lesson]) -> list[list[int]]:
    """Token ids of some of the documents and of questions about them, spread over all: what a fresh translator is
    calibrated on."""
    some = lessons[:: max(1, len(lessons) // CALIBRATED)][:CALIBRATED]
    prompts = [base.tokenizer(lesson.document.passage)["input_ids"] for lesson in some]
    return prompts + [question_prompt(base.tokenizer, lesson.pairs[0].question) for lesson in some]


@dataclass(frozen=True)
class Tree:
    """Rows of samples, those of a row behind their common beginning.

    ids, positions: [rows, tokens]; parts: [rows, tokens], 0 for the common beginning, then the row's samples from 1,
    -1 for padding; places: [answer tokens], flat positions of what predicts them; targets: [answer tokens]; samples:
    [answer tokens], the number of each one's sample, counted over all rows.
    """

    ids: Tensor
    positions: Tensor
    parts: Tensor
    places: Tensor
    targets: Tensor
    samples: Tensor

    def to(self, device: torch.device) -> "Tree":
        """The same on a device."""
        return Tree(*(getattr(self, each.name).to(device, non_blocking=True) for each in fields(self)))

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, [rows, 1, tokens, tokens]: each part sees itself and the beginning."""
        causal = torch.ones(self.ids.shape[1], self.ids.shape[1], dtype=torch.bool, device=self.ids.device).tril()
        seen = causal & ((self.parts[:, :, None] == self.parts[:, None, :]) | (self.parts[:, None, :] == 0))
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[:, None]


def grow(base: BaseModel, rows: Sequence[Sequence[Sample]]) -> Tree:
    """Put each row's samples behind what all of them begin with; each sees that and itself."""
    return _grown(rows, base.tokenizer.pad_token_id).to(base.device)


def _grown(rows: Sequence[Sequence[Sample]], pad_id: int) -> Tree:
    shared = [_shared(row) for row in rows]
    longest = max(k + sum(len(sample.ids) - k for sample in row) for k, row in zip(shared, rows, strict=True))
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    parts: list[list[int]] = []
    places: list[int] = []
    targets: list[int] = []
    numbers: list[int] = []
    for index, (row, begin) in enumerate(zip(rows, shared, strict=True)):
        own, at, part = row[0].ids[:begin], list(range(begin)), [0] * begin
        for count, sample in enumerate(row, start=1):
            first = index * longest + len(own) + sample.prompt_length - begin - 1
            answer = sample.ids[sample.prompt_length :]
            places += range(first, first + len(answer))
            targets += answer
            numbers += [numbers[-1] + 1 if numbers else 0] * len(answer)
            own = own + sample.ids[begin:]
            at += range(begin, len(sample.ids))
            part += [count] * (len(sample.ids) - begin)
        left = longest - len(own)
        ids.append(own + [pad_id] * left)
        positions.append(at + [0] * left)
        parts.append(part + [-1] * left)
    return Tree(*(torch.tensor(x, dtype=torch.long) for x in (ids, positions, parts, places, targets, numbers)))


def _shared(row: Sequence[Sample]) -> int:
    """How many ids all samples of a row begin with, short of each one's last prompt token."""
    low, high = min(sample.ids for sample in row), max(sample.ids for sample in row)
    alike = next((i for i, (x, y) in enumerate(zip(low, high, strict=False)) if x != y), len(low))
    return min(alike, *(sample.prompt_length - 1 for sample in row))


def answer_states(base: BaseModel, tree: Tree, adapters: Adapters | None, first_layer: int = 0) -> Tensor:
    """Last hidden states where answer tokens are predicted, [answer tokens, hidden]."""
    with inject(base, adapters, first_layer):
        states = base.model.get_decoder()(
            input_ids=tree.ids,
            position_ids=tree.positions,
            attention_mask=tree.mask(base.dtype),
            use_cache=False,
        ).last_hidden_state
    return states.flatten(0, 1).index_select(0, tree.places)


@torch.no_grad()
def recited(base: BaseModel, tree: Tree, adapters: Adapters | None, first_layer: int = 0) -> list[tuple[bool, float]]:
    """For each sample, whether greedy decoding gives its answer token by token, and the mean loss of its tokens."""
    states = answer_states(base, tree, adapters, first_layer)
    logits = base.head(states).float()
    right = logits.argmax(-1) == tree.targets
    losses = nn.functional.cross_entropy(logits, tree.targets, reduction="none")
    count = int(tree.samples.max()) + 1
    return [(bool(right[tree.samples == i].all()), float(losses[tree.samples == i].mean())) for i in range(count)]


@dataclass(frozen=True)
class Learned:
    """The losses of one step: of the right answers, towards the teacher with the passage, and towards the base model
    on questions about other documents; `total` as weighted. With how long it took, and on what."""

    pred: float
    teacher: float
    unrelated: float
    total: float
    seconds: float = field(default=0.0, compare=False)
    device: str = field(default="", compare=False)


@dataclass(frozen=True)
class Draw:
    """One row of a step: a lesson, which of its pairs, and a pair (lesson, pair) of another one or none."""

    lesson: int
    pairs: tuple[int, ...]
    other: tuple[int, int] | None


def draws(lessons: Sequence[Lesson], settings: LearnSettings, step: int) -> list[Draw]:
    """The rows of a step, which depend on the seed and the step's number only."""
    order = random.Random(f"{settings.seed}/{step}")
    rows = []
    for _ in range(settings.documents):
        index = order.randrange(len(lessons))
        pairs = order.sample(range(len(lessons[index].pairs)), min(settings.questions, len(lessons[index].pairs)))
        other = None
        if order.random() < settings.unrelated and len(lessons) > 1:
            stranger = (index + order.randrange(1, len(lessons))) % len(lessons)
            other = stranger, order.randrange(len(lessons[stranger].pairs))
        rows.append(Draw(index, tuple(pairs), other))
    return rows


def rate(settings: LearnSettings, step: int) -> float:
    """The learning rate of a step (from 1): warm-up, constant, then linear to zero."""
    left = (settings.steps - step + 1) / max(1.0, settings.decay * settings.steps)
    return settings.learning_rate * min(1.0, step / max(1, settings.warmup), left)


def learn(
    base: BaseModel,
    translator: nn.Module,
    lessons: Sequence[Lesson],
    settings: LearnSettings,
    on_step: Callable[[int, Learned], None] | None = None,
    checkpoint: Path | None = None,
) -> list[Learned]:
    """Train a translator in place.

    Args:
        translator: one that `dyprag.translators.protocol.fresh_translator` made.
        lessons: documents with pairs; one with none is passed over.
        on_step: called with (step, losses) after every step.
        checkpoint: a file that takes the state once a minute, and when the training is interrupted; it goes on from
            there and ends with the same weights.

    Returns:
        The losses of every step.

    Raises:
        DypragError: no lesson has a pair, or the loss is no number any more.
    """
    lessons = [lesson for lesson in lessons if lesson.pairs]
    if not lessons:
        raise DypragError("learning", "there is no document with questions", "Raise learn.closed, or set learn.data.")
    optimizer = torch.optim.AdamW(
        translator.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    name = _name(base, translator, lessons, settings)
    curve: list[Learned] = []
    if checkpoint and (found := load_checkpoint(checkpoint, name, translator, optimizer)):
        curve = [Learned(**losses) for losses in found[0]["curve"]]
        logger.info("The training goes on from step %d.", len(curve))
    reader = cast(Translating, translator)
    library = Library(base, reader, lessons)
    steps = _prepared(base, Steps(base.tokenizer, lessons, settings), len(curve))
    device = torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else base.device.type
    saved = began = time.monotonic()
    translator.train()
    for step, prepared in enumerate(steps, start=len(curve) + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate(settings, step)
        with base.lock:
            try:
                losses, total = lesson_loss(base, reader, prepared, settings, library)
            except Interrupted:
                if checkpoint:
                    save_checkpoint(checkpoint, name, translator, optimizer, {"curve": [asdict(x) for x in curve]}, {})
                raise
            optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(translator.parameters(), settings.clip)
            optimizer.step()
        if not math.isfinite(losses.total) or not math.isfinite(float(norm)):
            if checkpoint:
                checkpoint.unlink(missing_ok=True)
            raise DypragError(
                "translator", f"its training diverged: at step {step} the loss is {losses.total}",
                "Lower learn.learning_rate.",
            )  # fmt: skip
        began, before = time.monotonic(), began
        losses = replace(losses, seconds=began - before, device=device)
        curve.append(losses)
        if checkpoint and time.monotonic() - saved > CHECKPOINT_SECONDS:
            save_checkpoint(checkpoint, name, translator, optimizer, {"curve": [asdict(x) for x in curve]}, {})
            saved = time.monotonic()
        if on_step:
            on_step(step, losses)
    translator.eval()
    return curve


@dataclass(frozen=True)
class Step:
    """The rows of a step as tensors: of which lessons they are, their questions, which answer tokens belong to
    questions about other lessons, those questions alone, and, for the teacher, the own ones behind the passage."""

    lessons: list[int]
    tree: Tree
    foreign: Tensor
    strangers: Tree | None
    shown: Tree | None

    def to(self, device: torch.device) -> "Step":
        """The same on a device."""
        strangers, shown = (tree and tree.to(device) for tree in (self.strangers, self.shown))
        return Step(self.lessons, self.tree.to(device), self.foreign.to(device), strangers, shown)


class Steps(torch.utils.data.Dataset[Step]):
    """The steps of a training, by their number from 0; each sample is tokenized once."""

    def __init__(self, tokenizer: Any, lessons: Sequence[Lesson], settings: LearnSettings) -> None:
        self.tokenizer, self.lessons, self.settings = tokenizer, lessons, settings
        self.samples: dict[tuple[int, int], Sample] = {}

    def __getitem__(self, number: int) -> Step:
        rows = draws(self.lessons, self.settings, number + 1)
        own = [self._that_fit([self._sample(row.lesson, i) for i in row.pairs]) for row in rows]
        other = [[self._sample(*row.other)] if row.other else [] for row in rows]
        pad = self.tokenizer.pad_token_id
        tree = _grown([mine + theirs for mine, theirs in zip(own, other, strict=True)], pad)
        flags = [flag for mine, theirs in zip(own, other, strict=True)
                 for flag in [False] * len(mine) + [True] * len(theirs)]  # fmt: skip
        shown = None
        if self.settings.lambda_teacher:
            shown = _grown([[self._shown(row.lesson, i) for i in row.pairs[: len(mine)]]
                            for row, mine in zip(rows, own, strict=True)], pad)  # fmt: skip
        strangers = _grown([theirs for theirs in other if theirs], pad) if any(other) else None
        return Step([row.lesson for row in rows], tree, torch.tensor(flags)[tree.samples], strangers, shown)

    def _sample(self, lesson: int, pair: int) -> Sample:
        if (lesson, pair) not in self.samples:
            asked = self.lessons[lesson].pairs[pair]
            self.samples[lesson, pair] = Sample(*training_sample(self.tokenizer, asked.question, asked.answer))
        return self.samples[lesson, pair]

    def _shown(self, lesson: int, pair: int) -> Sample:
        asked, passage = self.lessons[lesson].pairs[pair], self.lessons[lesson].document.passage
        return Sample(*training_sample(self.tokenizer, asked.question, asked.answer, passage))

    def _that_fit(self, samples: Sequence[Sample]) -> list[Sample]:
        """The first of a row's samples, and those after it until the row gets long: all rows wait for the longest."""
        count = 1
        while count < len(samples):
            row = samples[: count + 1]
            shared = _shared(row)
            if shared + sum(len(sample.ids) - shared for sample in row) > self.settings.row_tokens:
                break
            count += 1
        return list(samples[:count])


def _prepared(base: BaseModel, steps: Steps, first: int) -> Iterator[Step]:
    """The steps from a number on. An accelerator would wait for them: there other processes make them ahead."""
    left = range(first, steps.settings.steps)
    if base.device.type == "cpu":
        return (steps[number] for number in left)
    helpers = min(MOST_HELPERS, usable_cores() - 1, len(left))
    loader = torch.utils.data.DataLoader(
        steps, batch_size=None, sampler=left, num_workers=helpers, prefetch_factor=4 if helpers else None
    )
    return (step.to(base.device) for step in loader)


class Library:
    """What a translator reads of lessons, each made once, as many kept as there is room for."""

    def __init__(self, base: BaseModel, translator: Translating, lessons: Sequence[Lesson]) -> None:
        self.base, self.translator, self.lessons = base, translator, lessons
        self.read: dict[int, Any] = {}
        self.most = MOST_READ
        self.together = 1  # in other company it would be padded, and differ in its last bits after a resumption
        if base.device.type != "cpu":  # nothing is the same to the last bit there
            self.together = len(lessons)

    def readings(self, wanted: Sequence[int]) -> list[Any]:
        """Those of some lessons, by their numbers."""
        missing = [index for index in dict.fromkeys(wanted) if index not in self.read]
        made: dict[int, Any] = {}
        for at in range(0, len(missing), self.together):
            part = missing[at : at + self.together]
            passages = [self.lessons[index].document.passage for index in part]
            made |= zip(part, self.translator.read(self.base, passages), strict=True)
        found = [made[index] if index in made else self.read[index] for index in wanted]
        for index, reading in made.items():
            if len(self.read) < self.most:
                self.read[index] = reading
        return found


def lesson_loss(
    base: BaseModel, translator: Translating, step: Step, settings: LearnSettings, library: Library
) -> tuple[Learned, Tensor]:
    """The losses of one step.

    L_pred: mean cross-entropy of the right answers' tokens. Teacher: mean over the same tokens of KL(base model with
    the passage in its prompt ‖ base model with the adapter). Unrelated: mean over the answer tokens of questions about
    other documents of KL(base model ‖ base model with the adapter).
    """
    tree, foreign = step.tree, step.foreign
    teacher = None
    if step.shown or step.strangers:
        teacher = torch.zeros(len(tree.targets), base.hidden, device=base.device, dtype=base.dtype)
        with torch.no_grad():
            if step.shown:
                teacher[~foreign] = answer_states(base, step.shown, None)
            if step.strangers:
                teacher[foreign] = answer_states(base, step.strangers, None)
    adapters = translator.translate(library.readings(step.lessons))
    states = answer_states(base, tree, adapters, translator.first_layer)
    mine, theirs = (~foreign).float(), foreign.float()
    counts = mine.sum(), theirs.sum().clamp(min=1)
    towards = settings.lambda_teacher * mine / counts[0] + settings.lambda_unrelated * theirs / counts[1]
    found = token_losses(base, states, tree.targets, settings.lambda_pred * mine / counts[0], teacher, towards)
    pred, near, away = (found.nll * mine).sum(), (found.kl * mine).sum(), (found.kl * theirs).sum()
    near *= settings.lambda_teacher > 0  # there was none to be near to
    losses = torch.stack([pred / counts[0], near / counts[0], away / counts[1], found.total.detach()]).tolist()
    return Learned(*losses), found.total


def _name(base: BaseModel, translator: Any, lessons: Sequence[Lesson], settings: LearnSettings) -> str:
    """A name for the whole training: what it computes with, on, and in which order."""
    model = {"model": base.fingerprint, "dtype": str(base.dtype), "shape": asdict(translator.shape)}
    return content_key("learning", [lesson.key for lesson in lessons], {**settings.material(), **model})
