"""Answering in rounds, as FLARE and DRAGIN do (baselines of §4).

Each round continues an answer, finds its first doubtful position, cuts there, and retrieves for it; the next round
continues with the retrieved passages. All open questions share a round's batches.

A draft is written to its end and then cut. With greedy decoding, the result is the same as looking ahead sentence by
sentence, without reading the prompt again for each sentence.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf, nextafter
from time import perf_counter
from typing import Protocol

from dyprag.adapters.generation import Generation, Sampling, generate
from dyprag.adapters.stopping import repeats
from dyprag.corpora.documents import Retrieved
from dyprag.corpora.retrieval import Retriever
from dyprag.corpora.text.sentences import block_sentences
from dyprag.errors import ConfigError
from dyprag.methods.protocol import Answer, Asked, Prompt, fitting_prompt
from dyprag.model.base import BaseModel
from dyprag.runtime import progress


@dataclass(frozen=True)
class Draft:
    """The continuation written in a round, and its context.

    prompt: ids of the prompt with the current passages.
    kept: ids of the answer before this round.
    ids, probabilities: the new ids and their probabilities.
    free: the first position of `text` that may be doubted.
    cut: whether generation stopped at the token limit.
    """

    question: str
    prompt: Sequence[int]
    kept: Sequence[int]
    ids: Sequence[int]
    probabilities: Sequence[float]
    free: int = 0
    cut: bool = False

    @property
    def text(self) -> list[int]:
        """All ids of the answer, kept and new."""
        return [*self.kept, *self.ids]


@dataclass(frozen=True)
class Doubt:
    """Where a draft is doubted: it is cut at `position` and continued after a retrieval with `query`."""

    position: int
    query: str


class Doubter(Protocol):
    """The decisions of a method that answers in rounds."""

    @property
    def name(self) -> str: ...
    @property
    def retriever(self) -> Retriever: ...
    @property
    def passages(self) -> int:
        """Number of passages per retrieval."""
        ...

    @property
    def rounds(self) -> int:
        """Maximum number of retrievals per question."""
        ...

    @property
    def doubts_above(self) -> bool:
        """Whether values above the threshold are doubted, rather than values below it."""
        ...

    def examine(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Doubt | None]:
        """Find the first doubtful position of each draft at or after `free`; None if there is none."""
        ...

    def extremes(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[float]:
        """Return the value of each draft's most doubtful position."""
        ...


@dataclass
class _Writing:
    """The state of a question that is being answered."""

    asked: Asked  # with the current passages
    kept: list[int] = field(default_factory=list)
    prompt: Prompt = field(default_factory=lambda: Prompt([], ()))
    retrievals: int = 0
    seconds: float = 0.0
    first_token: float = 0.0
    done: bool = False
    cut: bool = False

    def take(self, draft: Draft, doubt: Doubt | None, retrieved: Sequence[Retrieved]) -> None:
        """Keep the part of a draft before the doubt, and take the retrieved passages for the next round."""
        self.done, self.cut = doubt is None, draft.cut
        self.kept = draft.text[: doubt.position] if doubt else draft.text
        if doubt:
            self.retrievals += 1
            self.asked = replace(self.asked, retrieved=tuple(retrieved))


def answer_in_rounds(
    base: BaseModel, method: Doubter, asked: Sequence[Asked], sampling: Sampling, batch_size: int
) -> list[Answer]:
    """Answer questions in rounds; returns the answers in the same order.

    Documents retrieved beforehand are not used: the first draft is written without passages, later ones with those of
    the last retrieval only. The first sentence after a retrieval is not doubted, nor is anything after `method.rounds`
    retrievals. `sampling.max_new_tokens` limits the final answer. Its seconds include discarded tokens, examining and
    retrieving.
    """
    writings = [_Writing(replace(item, retrieved=())) for item in asked]
    while open_writings := [writing for writing in writings if not writing.done]:
        with progress.part(len(open_writings)):  # separate progress: drafts are not answers
            drafts = _drafts(base, open_writings, sampling, batch_size)
            doubts = _examine(base, method, open_writings, drafts, batch_size)
        progress.advance(doubts.count(None))
        for writing, draft, doubt in zip(open_writings, drafts, doubts, strict=True):
            start = perf_counter()
            retrieved = method.retriever.search(doubt.query, method.passages) if doubt else []
            writing.seconds += perf_counter() - start
            writing.take(draft, doubt, retrieved)
    return [_answer(base, writing) for writing in writings]


def choose_threshold(
    base: BaseModel, method: Doubter, asked: Sequence[Asked], sampling: Sampling, batch_size: int, share: float = 0.5
) -> float:
    """Choose the threshold at which `share` of the questions trigger a retrieval in their first draft.

    The published thresholds are for LLaMA-2; newer models are more confident and would seldom retrieve. The questions
    are answered without passages. The threshold lies midway between the values (`extremes`) of the last question that
    triggers and the first that does not. Use alignment questions, never test questions.

    Raises:
        ConfigError: there are no questions, or the share is not between 0 and 1.
    """
    if not asked or not 0 <= share <= 1:
        reason = f"it cannot be chosen for a share of {share} of {len(asked)} questions"
        raise ConfigError(f"threshold of {method.name}", reason, "Give at least one question and a share from 0 to 1.")
    drafts = _drafts(base, [_Writing(replace(item, retrieved=())) for item in asked], sampling, batch_size)
    values = sorted(method.extremes(base, drafts, batch_size), reverse=method.doubts_above)
    count = round(share * len(values))
    if count == 0:
        return values[0]
    if count == len(values):
        return nextafter(values[-1], -inf if method.doubts_above else inf)
    return (values[count - 1] + values[count]) / 2


def _drafts(base: BaseModel, writings: Sequence[_Writing], sampling: Sampling, batch_size: int) -> list[Draft]:
    """Continue every answer to its end or to the token limit."""
    for writing in writings:
        writing.prompt = fitting_prompt(base, writing.asked, True, sampling.max_new_tokens)
    limits = [sampling.max_new_tokens - len(writing.kept) for writing in writings]
    prompts = [[*writing.prompt.ids, *writing.kept] for writing in writings]
    generations = generate(
        base, prompts, replace(sampling, max_new_tokens=max(limits)), batch_size=batch_size, stop=repeats
    )
    return [
        _draft(base, writing, generation, limit)
        for writing, generation, limit in zip(writings, generations, limits, strict=True)
    ]


def _draft(base: BaseModel, writing: _Writing, new: Generation, limit: int) -> Draft:
    writing.seconds += new.seconds
    writing.first_token = writing.first_token or new.first_token
    draft = Draft(
        writing.asked.question, writing.prompt.ids, writing.kept, new.ids[:limit], new.probabilities[:limit],
        cut=len(new.ids) > limit or (new.cut and len(new.ids) == limit),
    )  # fmt: skip
    if not writing.retrievals:
        return draft
    next_starts = [start for start in sentence_starts(base, draft.text) if start > len(draft.kept)]
    return replace(draft, free=min(next_starts, default=len(draft.text)))


def _examine(
    base: BaseModel, method: Doubter, writings: Sequence[_Writing], drafts: Sequence[Draft], batch_size: int
) -> list[Doubt | None]:
    """Find the doubt of each draft that may still be doubted."""
    examined = [
        index
        for index, (writing, draft) in enumerate(zip(writings, drafts, strict=True))
        if writing.retrievals < method.rounds and draft.free < len(draft.text)
    ]
    doubts: list[Doubt | None] = [None] * len(drafts)
    start = perf_counter()
    results = method.examine(base, [drafts[index] for index in examined], batch_size)
    seconds = perf_counter() - start
    for index, doubt in zip(examined, results, strict=True):
        doubts[index] = doubt
        writings[index].seconds += seconds / len(examined)
    return doubts


def _answer(base: BaseModel, writing: _Writing) -> Answer:
    return Answer(
        base.tokenizer.decode(writing.kept, skip_special_tokens=True).strip(), len(writing.kept), writing.seconds,
        writing.first_token, base.tokenizer.decode(writing.prompt.ids), writing.prompt.passages, writing.retrievals,
        writing.cut,
    )  # fmt: skip


@dataclass(frozen=True)
class Spelled:
    """The text of token ids, and the characters of each id.

    starts, ends: where each id's characters begin and end in `text`. Ids that share a character's bytes share it.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def tokens(self, first: int, last: int) -> range:
        """Return the positions of the ids that cover the characters from `first` up to, not including, `last`."""
        return range(bisect_right(self.ends, first), bisect_left(self.starts, last))


def spell(base: BaseModel, ids: Sequence[int]) -> Spelled:
    """Decode ids, and locate each of them in the text."""
    prefixes = [[*ids[:size]] for size in range(len(ids) + 1)]  # an id decoded alone may lack bytes or its space
    texts = base.tokenizer.batch_decode(prefixes, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    starts = [len(text.rstrip("\ufffd")) for text in texts[:-1]]
    return Spelled(texts[-1], starts, [len(text) for text in texts[1:]])


def sentence_starts(base: BaseModel, ids: Sequence[int]) -> list[int]:
    """Return the positions of the ids that begin a sentence, from 0 on; empty without ids."""
    spelled = spell(base, ids)
    starts, position = {0} if ids else set(), 0
    for index, sentence in enumerate(block_sentences(spelled.text)):
        position = spelled.text.index(sentence, position)
        if index:
            starts.add(spelled.tokens(position, position + 1).start)
        position += len(sentence)
    return sorted(starts)


def sentence_ranges(base: BaseModel, ids: Sequence[int], free: int = 0) -> list[range]:
    """Return the id range of each sentence that begins at or after `free`."""
    starts = sentence_starts(base, ids)
    return [range(first, end) for first, end in pairwise([*starts, len(ids)]) if first >= free]
