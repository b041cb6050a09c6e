"""Answering in rounds, as FLARE and DRAGIN do (baselines of §4): write on, look for the first doubtful place, cut
there, retrieve for it, write on with the passages. The rounds of all open questions run side by side.

A draft is written to its end and then cut. Written greedily it says what looking ahead sentence by sentence would say,
without reading the prompt again for each sentence.
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
    """What a round has written, and what it goes on from.

    prompt: ids of the question with its present passages; kept: ids of the answer so far; ids, probabilities: the new
    ones; free: the first place of `text` that may be doubted; cut: it had not ended at the limit of tokens.
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
        """Ids of the answer, the kept and the new."""
        return [*self.kept, *self.ids]


@dataclass(frozen=True)
class Doubt:
    """How many ids of a draft's text stand, and what to retrieve with before going on from there."""

    place: int
    query: str


class Doubter(Protocol):
    """What a method that answers in rounds decides."""

    @property
    def name(self) -> str: ...
    @property
    def retriever(self) -> Retriever: ...
    @property
    def passages(self) -> int:
        """Passages of one retrieval."""
        ...

    @property
    def rounds(self) -> int:
        """The most retrievals for one question."""
        ...

    @property
    def doubts_above(self) -> bool:
        """Whether values above the threshold are doubted, or those below it."""
        ...

    def examine(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Doubt | None]:
        """The first doubtful place of each draft at or behind `free`; None where there is none."""
        ...

    def extremes(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[float]:
        """The value of each draft's most doubtful place."""
        ...


@dataclass
class _Writing:
    """A question that is being answered."""

    asked: Asked  # with the passages that stand in the prompt now
    kept: list[int] = field(default_factory=list)
    prompt: Prompt = field(default_factory=lambda: Prompt([], ()))
    retrievals: int = 0
    seconds: float = 0.0
    first_token: float = 0.0
    done: bool = False
    cut: bool = False

    def take(self, draft: Draft, doubt: Doubt | None, found: Sequence[Retrieved]) -> None:
        """Keep what stands of a draft; go on with the passages found where it was doubted."""
        self.done, self.cut = doubt is None, draft.cut
        self.kept = draft.text[: doubt.place] if doubt else draft.text
        if doubt:
            self.retrievals += 1
            self.asked = replace(self.asked, retrieved=tuple(found))


def answer_in_rounds(
    base: BaseModel, method: Doubter, asked: Sequence[Asked], sampling: Sampling, batch_size: int
) -> list[Answer]:
    """Answer questions in rounds, in the order given.

    What was retrieved for a question before is not used: the first draft is written without passages, later ones with
    those of the last retrieval alone. The sentence that goes on from a retrieval is not doubted, nor is anything after
    `method.rounds` retrievals. `sampling.max_new_tokens` limits the answer; thrown away tokens count in its seconds
    only, as do examining and retrieving.
    """
    writings = [_Writing(replace(item, retrieved=())) for item in asked]
    while still := [writing for writing in writings if not writing.done]:
        with progress.part(len(still)):  # of its own: a draft is not an answer
            drafts = _drafts(base, still, sampling, batch_size)
            doubts = _examine(base, method, still, drafts, batch_size)
        progress.advance(doubts.count(None))
        for writing, draft, doubt in zip(still, drafts, doubts, strict=True):
            began = perf_counter()
            found = method.retriever.search(doubt.query, method.passages) if doubt else []
            writing.seconds += perf_counter() - began
            writing.take(draft, doubt, found)
    return [_answer(base, writing) for writing in writings]


def choose_threshold(
    base: BaseModel, method: Doubter, asked: Sequence[Asked], sampling: Sampling, batch_size: int, share: float = 0.5
) -> float:
    """The threshold at which `share` of the questions would be retrieved for in their first draft.

    The published thresholds are for LLaMA-2; newer models are surer of themselves and would seldom retrieve. The
    questions are answered without passages; the threshold lies midway between the most doubtful values (`extremes`) of
    those that are to trigger and of those that are not. Take alignment questions, never test questions.

    Raises:
        ConfigError: no questions, or a share outside 0 to 1.
    """
    if not asked or not 0 <= share <= 1:
        reason = f"it cannot be chosen for a share of {share} of {len(asked)} questions"
        raise ConfigError(f"threshold of {method.name}", reason, "Give some questions and a share from 0 to 1.")
    drafts = _drafts(base, [_Writing(replace(item, retrieved=())) for item in asked], sampling, batch_size)
    values = sorted(method.extremes(base, drafts, batch_size), reverse=method.doubts_above)
    count = round(share * len(values))
    if count == 0:
        return values[0]
    if count == len(values):
        return nextafter(values[-1], -inf if method.doubts_above else inf)
    return (values[count - 1] + values[count]) / 2


def _drafts(base: BaseModel, writings: Sequence[_Writing], sampling: Sampling, batch_size: int) -> list[Draft]:
    """Go on with every answer, to its end or to the limit of tokens."""
    for writing in writings:
        writing.prompt = fitting_prompt(base, writing.asked, True, sampling.max_new_tokens)
    left = [sampling.max_new_tokens - len(writing.kept) for writing in writings]
    prompts = [[*writing.prompt.ids, *writing.kept] for writing in writings]
    written = generate(base, prompts, replace(sampling, max_new_tokens=max(left)), batch_size=batch_size, stop=repeats)
    return [_draft(base, w, g, limit) for w, g, limit in zip(writings, written, left, strict=True)]


def _draft(base: BaseModel, writing: _Writing, written: Generation, limit: int) -> Draft:
    writing.seconds += written.seconds
    writing.first_token = writing.first_token or written.first_token
    draft = Draft(
        writing.asked.question, writing.prompt.ids, writing.kept, written.ids[:limit], written.probabilities[:limit],
        cut=len(written.ids) > limit or (written.cut and len(written.ids) == limit),
    )  # fmt: skip
    if not writing.retrievals:
        return draft
    later = [start for start in sentence_starts(base, draft.text) if start > len(draft.kept)]
    return replace(draft, free=min(later, default=len(draft.text)))


def _examine(
    base: BaseModel, method: Doubter, writings: Sequence[_Writing], drafts: Sequence[Draft], batch_size: int
) -> list[Doubt | None]:
    """What each draft is doubted for, where it may be."""
    looked = [
        index
        for index, (writing, draft) in enumerate(zip(writings, drafts, strict=True))
        if writing.retrievals < method.rounds and draft.free < len(draft.text)
    ]
    doubts: list[Doubt | None] = [None] * len(drafts)
    began = perf_counter()
    found = method.examine(base, [drafts[index] for index in looked], batch_size)
    seconds = perf_counter() - began
    for index, doubt in zip(looked, found, strict=True):
        doubts[index] = doubt
        writings[index].seconds += seconds / len(looked)
    return doubts


def _answer(base: BaseModel, writing: _Writing) -> Answer:
    return Answer(
        base.tokenizer.decode(writing.kept, skip_special_tokens=True).strip(), len(writing.kept), writing.seconds,
        writing.first_token, base.tokenizer.decode(writing.prompt.ids), writing.prompt.passages, writing.retrievals,
        writing.cut,
    )  # fmt: skip


@dataclass(frozen=True)
class Spelled:
    """Ids as text: `starts` and `ends` hold where each id's characters begin and end in it; ids that share a
    character's bytes share the character."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def tokens(self, first: int, last: int) -> range:
        """The ids that the characters from `first` up to before `last` belong to."""
        return range(bisect_right(self.ends, first), bisect_left(self.starts, last))


def spell(base: BaseModel, ids: Sequence[int]) -> Spelled:
    """The text of ids, and where each stands in it."""
    prefixes = [[*ids[:size]] for size in range(len(ids) + 1)]  # an id by itself may lack bytes, or its space
    texts = base.tokenizer.batch_decode(prefixes, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    starts = [len(text.rstrip("\ufffd")) for text in texts[:-1]]
    return Spelled(texts[-1], starts, [len(text) for text in texts[1:]])


def sentence_starts(base: BaseModel, ids: Sequence[int]) -> list[int]:
    """The places of the ids with which sentences begin; the first is 0. None for no ids."""
    spelled = spell(base, ids)
    starts, place = {0} if ids else set(), 0
    for number, sentence in enumerate(block_sentences(spelled.text)):
        place = spelled.text.index(sentence, place)
        if number:
            starts.add(spelled.tokens(place, place + 1).start)
        place += len(sentence)
    return sorted(starts)


def sentence_ranges(base: BaseModel, ids: Sequence[int], free: int = 0) -> list[range]:
    """The places of the ids of each sentence that begins at or behind `free`."""
    starts = sentence_starts(base, ids)
    return [range(first, end) for first, end in pairwise([*starts, len(ids)]) if first >= free]
