"""DRAGIN (Su et al. 2024, arXiv 2403.10081): retrieves where an uncertain word matters to what follows (RIND), with the
words that the model attends to there as the query (QFS). A baseline of §4."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from dyprag.adapters.decoding import common_prefix
from dyprag.adapters.generation import Sampling
from dyprag.corpora.retrieval import Retriever
from dyprag.corpora.text.english import LIGHT
from dyprag.corpora.text.words import WORD
from dyprag.methods.protocol import Answer, Asked
from dyprag.methods.rounds import Doubt, Draft, answer_in_rounds, sentence_ranges, spell
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.batches import pad

# Function words; the authors keep nouns, verbs, adjectives and numbers by a tagger.
STOP_WORDS = LIGHT | frozenset(
    """
    yes but nor so yet if than then thus hence therefore however also too very just only even both either neither while
    although though because since until unless during before after between through over under up down out off upon
    within without against among per via i me my you your we us our me him them its itself himself herself themselves
    these those here such some any all each every other another own none more most am being having doing will would
    can could shall should may might must why
    """.split()
)


@dataclass(frozen=True)
class DRAGIN:
    """Cuts the text before the first word with a token whose RIND is above the threshold.

    RIND of a token: the entropy (natural logarithm) of the distribution that it was drawn from, times the largest
    attention that a later token pays it in the last layer, mean over heads; 0 for stop words and punctuation. The first
    draft is written without passages, later ones keep those of the last retrieval.

    threshold: RIND above it triggers.
    kept: words of the query: those of the question and the text so far with most attention from the token that
        triggered.
    passages: of one retrieval; they take the place of the last one's.
    rounds: the most retrievals for one question.
    relative: take the attention as a multiple of its sentence's mean. The authors' code does, their paper does not;
        their thresholds (0.6 to 1.0) are for it and would hardly ever be reached without.
    """

    retriever: Retriever
    threshold: float = 0.8
    kept: int = 35
    passages: int = 3
    rounds: int = 10
    relative: bool = False
    name: str = "dragin"
    doubts_above: bool = True

    def answer(self, base: BaseModel, asked: Sequence[Asked], sampling: Sampling, batch_size: int) -> list[Answer]:
        """Answers in rounds; the questions' own retrieved documents are not used."""
        return answer_in_rounds(base, self, asked, sampling, batch_size)

    def examine(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Doubt | None]:
        """The first place of each draft with too high a RIND."""
        looks = _look(base, drafts, batch_size)
        return [self._examine(base, draft, look) for draft, look in zip(drafts, looks, strict=True)]

    def extremes(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[float]:
        """The highest RIND of each draft; 0 for an empty draft."""
        looks = _look(base, drafts, batch_size)
        return [
            max(self._rind(base, draft, look), default=0.0) for draft, look in zip(drafts, looks, strict=True)
        ]  # fmt: skip

    def _rind(self, base: BaseModel, draft: Draft, look: "Look") -> list[float]:
        """RIND of each new id."""
        attention = look.later
        if self.relative:
            before = len(draft.kept)
            attention = attention.clone()
            for sentence in sentence_ranges(base, draft.text):
                part = slice(max(0, sentence.start - before), max(0, sentence.stop - before))
                attention[part] /= attention[part].mean().clamp(min=1e-12)
        content = torch.zeros(len(draft.text))
        for word in content_words(base, draft.text):
            content[list(word.places)] = 1.0
        return (look.entropies * attention * content[len(draft.kept) :]).tolist()

    def _examine(self, base: BaseModel, draft: Draft, look: "Look") -> Doubt | None:
        rind, before = self._rind(base, draft, look), len(draft.kept)
        for place in range(max(draft.free, before), len(draft.text)):
            if rind[place - before] > self.threshold:
                words = content_words(base, draft.text)
                begins = min((w.places.start for w in words if place in w.places), default=place)
                cut = max(begins, draft.free)  # half a word would go on as it was
                return Doubt(cut, self._query(base, draft, cut, look.attention[place - before]))
        return None

    def _query(self, base: BaseModel, draft: Draft, cut: int, attention: Tensor) -> str:
        """QFS: the words of the question and the text before `cut` that `attention`, [tokens of prompt and text], lies
        on most, in their order; the question where there are none."""
        asked = question_place(base, draft.prompt, draft.question)
        found = [
            (attention[first + word.places.start : first + word.places.stop].sum().item(), word.text)
            for first, ids in (
                (asked.start, [draft.prompt[place] for place in asked]), (len(draft.prompt), draft.text[:cut])
            )
            for word in content_words(base, ids)
        ]  # fmt: skip
        best = sorted(range(len(found)), key=lambda index: -found[index][0])[: self.kept]
        return " ".join(found[index][1] for index in sorted(best)) or draft.question


@dataclass(frozen=True)
class Word:
    """A word, and the places of its ids."""

    text: str
    places: range


def content_words(base: BaseModel, ids: Sequence[int]) -> list[Word]:
    """The words of a text that are no stop words."""
    spelled = spell(base, ids)
    return [
        Word(match.group(), spelled.tokens(match.start(), match.end()))
        for match in WORD.finditer(spelled.text)
        if match.group().lower() not in STOP_WORDS
    ]


def question_place(base: BaseModel, prompt: Sequence[int], question: str) -> range:
    """Where the question stands in its prompt: the last occurrence, behind all passages. Empty where the template has
    changed it."""
    sought = unicodedata.normalize("NFC", neutralise(question, base.tokenizer)).strip()

    def holds(first: int, last: int) -> bool:
        text = base.tokenizer.decode(prompt[first:last], clean_up_tokenization_spaces=False)
        return sought in unicodedata.normalize("NFC", text)

    size = len(prompt)
    if not re.search(r"\w", sought) or not holds(0, size):
        return range(0)
    first = bisect_left(range(size), True, key=lambda place: not holds(place, size)) - 1
    return range(first, first + bisect_left(range(size - first + 1), True, key=lambda span: holds(first, first + span)))


@dataclass(frozen=True)
class Look:
    """What one more pass tells of a draft, on the CPU.

    entropies, later: [new ids], of the distribution each was drawn from, and the largest attention that a later id pays
    it, mean over heads. attention: [new ids, tokens of prompt and text], each one's own, mean over heads.
    """

    entropies: Tensor
    later: Tensor
    attention: Tensor


def _look(base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Look]:
    """Read drafts again, those of like length together."""
    looks: dict[int, Look] = {}
    empty = torch.empty(0)
    order = sorted(range(len(drafts)), key=lambda index: len(drafts[index].prompt) + len(drafts[index].kept))
    order = [index for index in order if drafts[index].ids]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        with base.lock:
            looks.update(zip(batch, _look_at(base, [drafts[index] for index in batch]), strict=True))
    return [looks.get(index, Look(empty, empty, empty[:, None])) for index in range(len(drafts))]


@torch.inference_mode()
def _look_at(base: BaseModel, drafts: Sequence[Draft]) -> list[Look]:
    """What stands before the new ids goes through the fused kernel into a cache, less its last id; only that and the
    new ids are computed with attention weights, [rows, heads, new + 1, tokens], of one layer at a time."""
    decoder, cache = base.model.get_decoder(), DynamicCache()  # a whole one: sliding layers too keep all columns
    befores = [[*draft.prompt, *draft.kept] for draft in drafts]
    kinds = getattr(base.model.config.get_text_config(), "layer_types", None) or ()
    # padding behind a shared prefix would count as a part of a sliding window
    shared = 0 if "sliding_attention" in kinds else common_prefix([before[:-1] for before in befores])
    ids, mask = pad([before[shared:-1] for before in befores], base, side="left")
    if shared:
        front = torch.tensor([befores[0][:shared]], device=base.device)
        decoder(input_ids=front, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(drafts))
        mask = torch.cat([torch.ones_like(front).expand(len(drafts), -1), mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    decoder(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    tails = [[before[-1], *draft.ids] for before, draft in zip(befores, drafts, strict=True)]
    tail, tail_mask = pad(tails, base, side="right")
    mask = torch.cat([mask, tail_mask], dim=1)
    positions = mask.cumsum(1)[:, -tail.shape[1] :] - 1
    with _last_attention(base) as caught:
        states = decoder(
            input_ids=tail, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
    (weights,) = caught
    looks, end = [], mask.shape[1] - tail.shape[1] + 1  # of what stands before the new ids
    for row, (before, draft) in enumerate(zip(befores, drafts, strict=True)):
        new, padding = len(draft.ids), end - len(before)
        columns = [*range(shared), *range(shared + padding, end + new)]
        looks.append(_look_of_row(base, states[row, :new], weights[row, :, 1 : new + 1, columns]))
    return looks


def _look_of_row(base: BaseModel, states: Tensor, weights: Tensor) -> Look:
    """From the hidden states that each new id was drawn from, [new, hidden], and the attention of the new ids to the
    tokens of prompt and text, [heads, new, tokens]."""
    logs = base.head(states).float().log_softmax(-1)
    weights = weights.float()
    among = weights[..., -weights.shape[1] :].tril(-1)  # the new ids' to those before them
    entropies = torch.special.entr(logs.exp()).sum(-1)
    return Look(entropies.cpu(), among.amax(1).mean(0).cpu(), weights.mean(0).cpu())


@contextmanager
def _last_attention(base: BaseModel) -> Iterator[list[Tensor]]:
    """Catch the last layer's attention weights, [rows, heads, new, tokens], of each pass; those of the other layers are
    freed at once."""
    caught: list[Tensor] = []

    def catch(module: Any, given: Any, output: Any) -> None:
        caught.append(output[1])

    usual = base.model.config._attn_implementation
    handle = base.model.get_decoder().layers[-1].self_attn.register_forward_hook(catch)
    base.model.set_attn_implementation("eager")  # fused kernels give no weights
    try:
        yield caught
    finally:
        base.model.set_attn_implementation(usual)
        handle.remove()


def build(spec: MethodSpec, resources: Resources) -> DRAGIN:
    """By a threshold of its own, or by its authors'."""
    threshold = spec.threshold if resources.threshold is None else resources.threshold
    assert threshold is not None
    return DRAGIN(resources.retriever(), threshold, passages=resources.settings.passages, relative=True)
