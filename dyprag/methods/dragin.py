"""DRAGIN (Su et al. 2024, arXiv 2403.10081), a baseline of §4.

It retrieves where an uncertain word matters to what follows (RIND). The query consists of the words that the model
attends to there (QFS).
"""

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

from dyprag.adapters.generation import Sampling
from dyprag.adapters.sharing import common_prefix
from dyprag.corpora.retrieval import Retriever
from dyprag.corpora.text.english import LIGHT
from dyprag.corpora.text.words import WORD
from dyprag.methods.protocol import Answer, Asked
from dyprag.methods.rounds import Doubt, Draft, answer_in_rounds, sentence_ranges, spell
from dyprag.methods.spec import MethodSpec, Resources
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.batches import pad

# Function words. The authors use a tagger and keep nouns, verbs, adjectives and numbers.
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
    """Cuts a draft before the first word with a token whose RIND exceeds the threshold.

    The RIND of a token is the entropy (natural logarithm) of the distribution it was drawn from, times the largest
    attention that a later token pays to it in the last layer (mean over heads). It is 0 for stop words and punctuation.
    The first draft is written without passages; later drafts have those of the last retrieval.

    threshold: a RIND above it triggers retrieval.
    kept: number of words in the query: those of the question and the text so far that receive the most attention from
        the triggering token.
    passages: number of passages per retrieval. They replace those of the previous retrieval.
    rounds: maximum number of retrievals per question.
    relative: divide the attention by its mean over the sentence, as the authors' code does but their paper does not.
        Their thresholds (0.6 to 1.0) assume it and are hardly ever reached without it.
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
        """Answer in rounds. Documents retrieved for the questions beforehand are not used."""
        return answer_in_rounds(base, self, asked, sampling, batch_size)

    def examine(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Doubt | None]:
        """Find the first position of each draft whose RIND exceeds the threshold."""
        readings = _read_again(base, drafts, batch_size)
        return [self._examine(base, draft, reading) for draft, reading in zip(drafts, readings, strict=True)]

    def extremes(self, base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[float]:
        """Return the highest RIND of each draft; 0 for an empty draft."""
        readings = _read_again(base, drafts, batch_size)
        return [
            max(self._rind(base, draft, reading), default=0.0) for draft, reading in zip(drafts, readings, strict=True)
        ]  # fmt: skip

    def _rind(self, base: BaseModel, draft: Draft, reading: "Reading") -> list[float]:
        """Compute the RIND of each new id."""
        attention = reading.later
        if self.relative:
            kept = len(draft.kept)
            attention = attention.clone()
            for sentence in sentence_ranges(base, draft.text):
                span = slice(max(0, sentence.start - kept), max(0, sentence.stop - kept))
                attention[span] /= attention[span].mean().clamp(min=1e-12)
        content = torch.zeros(len(draft.text))
        for word in content_words(base, draft.text):
            content[list(word.positions)] = 1.0
        return (reading.entropies * attention * content[len(draft.kept) :]).tolist()

    def _examine(self, base: BaseModel, draft: Draft, reading: "Reading") -> Doubt | None:
        rind, kept = self._rind(base, draft, reading), len(draft.kept)
        for position in range(max(draft.free, kept), len(draft.text)):
            if rind[position - kept] > self.threshold:
                words = content_words(base, draft.text)
                word_start = min((w.positions.start for w in words if position in w.positions), default=position)
                cut = max(word_start, draft.free)  # never inside a word: the model would only complete it again
                return Doubt(cut, self._query(base, draft, cut, reading.attention[position - kept]))
        return None

    def _query(self, base: BaseModel, draft: Draft, cut: int, attention: Tensor) -> str:
        """Build the query (QFS): the words of the question and of the text before `cut` with the most attention.

        The words keep their order. If there are none, the query is the question.

        attention: [tokens of prompt and text].
        """
        question = question_range(base, draft.prompt, draft.question)
        weighted = [
            (attention[first + word.positions.start : first + word.positions.stop].sum().item(), word.text)
            for first, ids in (
                (question.start, [draft.prompt[i] for i in question]), (len(draft.prompt), draft.text[:cut])
            )
            for word in content_words(base, ids)
        ]  # fmt: skip
        best = sorted(range(len(weighted)), key=lambda index: -weighted[index][0])[: self.kept]
        return " ".join(weighted[index][1] for index in sorted(best)) or draft.question


@dataclass(frozen=True)
class Word:
    """A word, and the positions of its ids."""

    text: str
    positions: range


def content_words(base: BaseModel, ids: Sequence[int]) -> list[Word]:
    """Return the words of a text that are not stop words."""
    spelled = spell(base, ids)
    return [
        Word(match.group(), spelled.tokens(match.start(), match.end()))
        for match in WORD.finditer(spelled.text)
        if match.group().lower() not in STOP_WORDS
    ]


def question_range(base: BaseModel, prompt: Sequence[int], question: str) -> range:
    """Find the token range of the question in its prompt: its last occurrence, after all passages.

    The range is empty if the chat template has changed the question's text.
    """
    target = unicodedata.normalize("NFC", neutralise(question, base.tokenizer)).strip()

    def contains(first: int, last: int) -> bool:
        text = base.tokenizer.decode(prompt[first:last], clean_up_tokenization_spaces=False)
        return target in unicodedata.normalize("NFC", text)

    size = len(prompt)
    if not re.search(r"\w", target) or not contains(0, size):
        return range(0)
    first = bisect_left(range(size), True, key=lambda start: not contains(start, size)) - 1
    return range(
        first, first + bisect_left(range(size - first + 1), True, key=lambda span: contains(first, first + span))
    )


@dataclass(frozen=True)
class Reading:
    """Measurements of a draft from a second forward pass, on the CPU. Attention is the mean over heads.

    entropies: [new ids], of the distribution that each id was drawn from.
    later: [new ids], the largest attention that a later id pays to each.
    attention: [new ids, tokens of prompt and text], the attention that each id pays.
    """

    entropies: Tensor
    later: Tensor
    attention: Tensor


def _read_again(base: BaseModel, drafts: Sequence[Draft], batch_size: int) -> list[Reading]:
    """Run a second forward pass over drafts, in batches of similar length."""
    readings: dict[int, Reading] = {}
    empty = torch.empty(0)
    indices = sorted(range(len(drafts)), key=lambda index: len(drafts[index].prompt) + len(drafts[index].kept))
    indices = [index for index in indices if drafts[index].ids]
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        with base.lock:
            readings.update(zip(batch, _read_batch(base, [drafts[index] for index in batch]), strict=True))
    return [readings.get(index, Reading(empty, empty, empty[:, None])) for index in range(len(drafts))]


@torch.inference_mode()
def _read_batch(base: BaseModel, drafts: Sequence[Draft]) -> list[Reading]:
    """Run the second forward pass over one batch.

    The context before the new ids, except its last id, goes through the fused kernel into a cache. Only the last id and
    the new ids are computed with attention weights, [rows, heads, new + 1, tokens], one layer at a time.
    """
    # the cache has no configuration, so that sliding-window layers keep all columns, too
    decoder, cache = base.model.get_decoder(), DynamicCache()
    contexts = [[*draft.prompt, *draft.kept] for draft in drafts]
    layer_types = getattr(base.model.config.get_text_config(), "layer_types", None) or ()
    # padding after a shared prefix would count towards a sliding window
    shared = 0 if "sliding_attention" in layer_types else common_prefix([context[:-1] for context in contexts])
    ids, mask = pad([context[shared:-1] for context in contexts], base, side="left")
    if shared:
        prefix = torch.tensor([contexts[0][:shared]], device=base.device)
        decoder(input_ids=prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(drafts))
        mask = torch.cat([torch.ones_like(prefix).expand(len(drafts), -1), mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    decoder(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
    tails = [[context[-1], *draft.ids] for context, draft in zip(contexts, drafts, strict=True)]
    tail, tail_mask = pad(tails, base, side="right")
    mask = torch.cat([mask, tail_mask], dim=1)
    positions = mask.cumsum(1)[:, -tail.shape[1] :] - 1
    with _last_attention(base) as caught:
        states = decoder(
            input_ids=tail, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
    (weights,) = caught
    readings, end = [], mask.shape[1] - tail.shape[1] + 1  # of the context, i.e. the first column of the new ids
    for row, (context, draft) in enumerate(zip(contexts, drafts, strict=True)):
        new, padding = len(draft.ids), end - len(context)
        columns = [*range(shared), *range(shared + padding, end + new)]
        readings.append(_reading_of_row(base, states[row, :new], weights[row, :, 1 : new + 1, columns]))
    return readings


def _reading_of_row(base: BaseModel, states: Tensor, weights: Tensor) -> Reading:
    """Compute the measurements of one draft.

    Args:
        states: [new, hidden], the hidden states that the new ids were drawn from.
        weights: [heads, new, tokens], the attention of the new ids to the tokens of prompt and text.
    """
    log_probs = base.head(states).float().log_softmax(-1)
    weights = weights.float()
    between_new = weights[..., -weights.shape[1] :].tril(-1)  # attention of the new ids to earlier new ids
    entropies = torch.special.entr(log_probs.exp()).sum(-1)
    return Reading(entropies.cpu(), between_new.amax(1).mean(0).cpu(), weights.mean(0).cpu())


@contextmanager
def _last_attention(base: BaseModel) -> Iterator[list[Tensor]]:
    """Record the last layer's attention weights, [rows, heads, new, tokens], of each pass; other layers' are freed."""
    weights: list[Tensor] = []

    def record(module: Any, inputs: Any, output: Any) -> None:
        weights.append(output[1])

    configured = base.model.config._attn_implementation
    handle = base.model.get_decoder().layers[-1].self_attn.register_forward_hook(record)
    base.model.set_attn_implementation("eager")  # fused kernels do not return weights
    try:
        yield weights
    finally:
        base.model.set_attn_implementation(configured)
        handle.remove()


def build(spec: MethodSpec, resources: Resources) -> DRAGIN:
    """Build DRAGIN with the chosen threshold, or with the published one if none was chosen."""
    threshold = spec.threshold if resources.threshold is None else resources.threshold
    assert threshold is not None
    return DRAGIN(resources.retriever(), threshold, passages=resources.settings.passages, relative=True)
