"""Augmentation by the base model itself, for models too small to write question-answer pairs freely (English only).

Questions: a question writer asks them (see `dyprag.augmentation.writer`). Without one, and for table rows, rules derive
the first words of a question from the text around a candidate answer, the model completes it, and rules drop unsound
questions. The rest are ranked by the likelihood of the answer given the passage (a round trip) and of the question; the
best with distinct questions and answers are kept. If there are fewer than m, the remaining
candidates become questions whose sentence has a gap, so that every fact is covered.
Rewrites: sentence by sentence, with a second try if one loses a name or number or stays unchanged, and reordered.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from dyprag.adapters.generation import Sampling, generate
from dyprag.adapters.likelihood import likelihoods
from dyprag.adapters.lora import Adapters
from dyprag.augmentation.cells import cells
from dyprag.augmentation.checks import check_item
from dyprag.augmentation.questions import ask_prompt, gap_pair, is_sound, names_title, tidy
from dyprag.augmentation.rewriting import faithful, likeness, reordered, turned
from dyprag.augmentation.scored import ScoredPair
from dyprag.augmentation.spans import Candidate, candidates
from dyprag.augmentation.writer.asking import QuestionWriter
from dyprag.config import AugmentSettings
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.products import PRODUCTS, Accepted, Dropped, Product, ProductName
from dyprag.corpora.text.languages import is_english, is_latin
from dyprag.corpora.text.sentences import block_sentences
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.prompts import question_prompt
from dyprag.runtime import progress
from dyprag.runtime.batching import Batcher

QUESTION_TOKENS = 20
TRIES = 2  # attempts at rewriting a sentence
ALIKE = 0.85  # retry a sentence that is more similar to its original than this
BATCH = 32
LEAST_LIKELIHOOD = -6.0  # mean log-likelihood below which the model does not find the answer in the passage
LEAST_FLUENCY = -0.75  # mean log-likelihood below which a question is rarely sound
_REWRITE = "Sentence: {sentence}\nIn other words:"
_REWRITE_EXAMPLES = "\n\n".join(
    f"{_REWRITE.format(sentence=sentence)} {rewrite}"
    for sentence, rewrite in (
        (
            "The bakery was opened in 1987 by Lena Ortiz, who had sold bread from a blue van for 12 weeks.",
            "In 1987 Lena Ortiz, who had sold bread out of a blue van for 12 weeks, opened the bakery.",
        ),
        (
            "Visitors may come on Sundays, but only in soft shoes.",
            "On Sundays people may visit if they wear soft shoes.",
        ),
    )
)


class LocalAugmenter:
    """Writes products with a loaded model. Documents that begin at the same time are written in batches.

    Args:
        writer: the adapter of a question writer, [1, layers, …]; None: questions begin by rule.
    """

    def __init__(self, base: BaseModel, settings: AugmentSettings, writer: Adapters | None = None) -> None:
        self._base, self._settings = base, settings
        self._writer = QuestionWriter(base, writer, settings.seed) if writer else None
        self._batchers: dict[ProductName, Batcher[Document, Product]] = {
            product: Batcher(partial(self._numbered, product), settings.batch_documents) for product in PRODUCTS
        }

    def begin(self, document: Document, product: ProductName, key: str) -> Future[Product]:
        """Start writing a product; see `Augmenter.begin`."""
        return self._batchers[product].begin(document)

    def stored(self, key: str) -> None:
        """Do nothing, because no answers are kept; see `Augmenter.stored`."""

    def close(self) -> None:
        """Do nothing, because the batchers' threads end on their own; see `Augmenter.close`."""

    def write(self, product: ProductName, documents: Sequence[Document]) -> list[Product | Exception]:
        """Write one product of several documents. Returns a product or an error for each document."""
        written: list[list[ScoredPair] | list[str] | Exception] = [
            *(self.rewrites_many(documents) if product == "rewrites" else self.qa_pairs_many(documents))
        ]
        return [
            items if isinstance(items, Exception) else self._checked(document, items)
            for document, items in zip(documents, written, strict=True)
        ]

    def _checked(self, document: Document, written: Sequence[ScoredPair | str]) -> Product | Exception:
        accepted: list[Accepted] = []
        dropped: list[Dropped] = []
        for draft in written:
            item, marks = (draft.pair, draft.marks) if isinstance(draft, ScoredPair) else (draft, {})
            verdict = check_item(document, item, accepted, self._settings)
            if isinstance(verdict, Accepted):
                accepted.append(Accepted(item, {**marks, **verdict.marks}))
            else:
                dropped.append(verdict)
        if any(isinstance(draft, ScoredPair) for draft in written) and not accepted:
            return DocumentError(
                f"document {document.id!r}", "none of the question-answer pairs that the model wrote passed the checks",
                "Add text to it, or remove it.",
            )  # fmt: skip
        return Product(tuple(accepted), tuple(dropped))

    def _numbered(
        self, product: ProductName, documents: Sequence[Document]
    ) -> Iterable[tuple[int, Product | Exception]]:
        products = 2 if self._settings.rewrites else 1
        with progress.part(len(documents) / products):
            return list(enumerate(self.write(product, documents)))

    def refusal(self, document: Document) -> DocumentError | None:
        """Why a document cannot be augmented: no text, not English, or too long for the model; None if it can."""
        if document.fault:
            return document.fault
        subject = f"document {document.id!r}"
        if not is_english(document.text):
            reason = "it is not in English, the only language of local augmentation"
            remedy = "Set augment.backend=api with a model that knows its language, or remove the document."
            return DocumentError(subject, reason, remedy)
        tokens = len(self._base.tokenizer(neutralise(document.passage, self._base.tokenizer))["input_ids"])
        limit = self._base.max_tokens - 128  # leave room for question, answer and template
        if tokens > limit:
            return DocumentTooLong(
                subject,
                f"it has {tokens:,} tokens and the model's context leaves room for {limit:,}",
                "Split it into shorter passages.",
            )
        return None

    def qa_pairs_many(self, documents: Sequence[Document]) -> list[list[ScoredPair] | Exception]:
        """Up to m question-answer pairs for each document, best first, gap questions last; or its error."""
        results: list[list[ScoredPair] | Exception] = []
        refusals = [self.refusal(document) for document in documents]
        spans = [
            [] if refusal else [c for c in candidates(document.title, document.text) if is_latin(c.sentence)]
            for document, refusal in zip(documents, refusals, strict=True)
        ]
        own = [
            self._writer.pairs(document, 0.9 / len(documents)) if self._writer and not refusal else []
            for document, refusal in zip(documents, refusals, strict=True)
        ]
        by_rule = [[span for span in found if not self._writer or cells(span.sentence)] for found in spans]
        written = self._written(documents, by_rule)
        for document, refusal, own_spans, first, asked in zip(documents, refusals, spans, own, written, strict=True):
            pairs = self._best(document.title, own_spans, [*first, *sorted(asked, key=_rank)])
            nothing = DocumentError(
                f"document {document.id!r}",
                "it contains nothing that the model could ask about",
                "Add text to it, or remove it.",
            )
            results.append(refusal or pairs or nothing)
        return results

    def _written(self, documents: Sequence[Document], spans: Sequence[Sequence[Candidate]]) -> list[list[ScoredPair]]:
        """The sound questions that the model writes for each document's candidates, with their marks."""
        drafts = self._drafts(documents, spans)
        progress.phase(0.1, len(drafts))
        fluent = likelihoods(self._base, [d.prompt for d in drafts], [d.ids for d in drafts], BATCH)
        results: list[list[ScoredPair]] = []
        progress.phase(0.2, len(drafts))
        for number, document in enumerate(documents):
            own = [
                (draft, mark)
                for draft, mark in zip(drafts, fluent, strict=True)
                if draft.asked.document == number and (mark >= LEAST_FLUENCY or draft.by_rule)
            ]
            likely = self._round_trip(document, [(draft.text, draft.asked.candidate.answer) for draft, _ in own])
            results.append(
                [
                    draft.scored(document.title, likelihood, mark)
                    for (draft, mark), likelihood in zip(own, likely, strict=True)
                ]
            )
        return results

    def _drafts(self, documents: Sequence[Document], spans: Sequence[Sequence[Candidate]]) -> "list[_Draft]":
        """The sound questions that the model writes for the candidates' first words, without duplicates."""
        most = 2 * self._settings.qa_pairs  # more take time and rarely give better pairs
        asked = [
            _Asked(number, candidate, start.removesuffix("?"), start.endswith("?"))
            for number, candidates in enumerate(spans)
            for candidate, start in [(candidate, start) for candidate in candidates for start in candidate.starts][
                :most
            ]
        ]
        prompts = [self._ask_ids(_title(documents[a.document]), a) for a in asked]
        drafts: dict[tuple[int, str], _Draft] = {}
        for a, prompt, endings in zip(asked, prompts, self._endings(asked, prompts), strict=True):
            for end, origin in endings.items():
                text = tidy(a.start + end)
                if is_sound(text, documents[a.document].title, a.candidate):
                    ids = self._base.tokenizer(text.removeprefix(a.start), add_special_tokens=False)["input_ids"]
                    drafts.setdefault((a.document, text), _Draft(a, text, origin, prompt, ids))
        return list(drafts.values())

    def _endings(self, asked: "Sequence[_Asked]", prompts: Sequence[list[int]]) -> list[dict[str, str]]:
        """The model's endings of each question, greedy and sampled, with their origin: "written" or "rule"."""
        endings: list[dict[str, str]] = [{} for _ in asked]
        for sampling in (Sampling(QUESTION_TOKENS), Sampling(QUESTION_TOKENS, 0.7, 20, self._settings.seed)):
            progress.phase(0.35, len(prompts))
            for ending, written in zip(endings, generate(self._base, prompts, sampling, batch_size=BATCH), strict=True):
                ending["?" if written.text == "?" else f" {written.text}"] = "written"
        for a, ending in zip(asked, endings, strict=True):
            if a.whole:
                ending.setdefault("?", "rule")
        return endings

    def _ask_ids(self, title: str, asked: "_Asked") -> list[int]:
        tokenizer = self._base.tokenizer
        shots, lines = ask_prompt(title, asked.candidate, asked.start)
        ids: list[int] = tokenizer(shots + neutralise(lines, tokenizer))["input_ids"]
        return ids

    def _round_trip(self, document: Document, asked: Sequence[tuple[str, str]]) -> list[float]:
        """The mean log-likelihood of each question's answer given the passage."""
        tokenizer = self._base.tokenizer
        prompts = [question_prompt(tokenizer, question, [document.passage]) for question, _ in asked]
        answers = [
            tokenizer(f" {neutralise(answer, tokenizer)}.", add_special_tokens=False)["input_ids"]
            for _, answer in asked
        ]
        return likelihoods(self._base, prompts, answers)

    def _best(self, title: str, spans: Sequence[Candidate], ranked: Sequence[ScoredPair]) -> list[ScoredPair]:
        chosen: list[ScoredPair] = []

        def new(pair: QAPair) -> bool:
            others = [other.pair for other in chosen]
            distinct = all(pair.question != other.question and pair.answer != other.answer for other in others)
            return distinct and len(chosen) < self._settings.qa_pairs

        for scored in ranked:
            answerable = float(scored.marks["likelihood"]) >= LEAST_LIKELIHOOD
            if new(scored.pair) and answerable:
                chosen.append(scored)
        for span in spans:
            if new(pair := gap_pair(title, span)):
                chosen.append(ScoredPair(pair, {"how": "gap"}))
        return chosen

    def rewrites_many(self, documents: Sequence[Document]) -> list[list[str] | Exception]:
        """n rewrites of each document, or its error."""
        results: list[list[str] | Exception] = [self.refusal(document) or [] for document in documents]
        parts = [[] if result else block_sentences(d.text) for result, d in zip(results, documents, strict=True)]
        for number in range(self._settings.rewrites):
            written = iter(self._rewritten([sentence for part in parts for sentence in part], number))
            turn = (number + 1) / (self._settings.rewrites + 1)
            for result, part, document in zip(results, parts, documents, strict=True):
                if not isinstance(result, Exception):
                    text = reordered(part, [next(written) for _ in part], turn)
                    result.append(f"{document.title}\n{text}" if document.title else text)
        return results

    def _rewritten(self, originals: Sequence[str], number: int) -> list[str]:
        """Rewrite each sentence; results too similar to the original are sampled again."""
        settings, tokenizer = self._settings, self._base.tokenizer
        texts = [neutralise(sentence, tokenizer) for sentence in originals]
        prompts = [tokenizer(f"{_REWRITE_EXAMPLES}\n\n{_REWRITE.format(sentence=text)}")["input_ids"] for text in texts]
        longest = max((len(tokenizer(text)["input_ids"]) for text in texts), default=1)
        best = [turned(sentence) for sentence in originals]
        for attempt in range(TRIES):
            again = [
                index for index, sentence in enumerate(originals)
                if is_latin(sentence) and not cells(sentence)  # table rows stay unchanged
                and likeness(sentence, best[index]) > ALIKE
            ]  # fmt: skip
            sampling = Sampling(
                min(settings.max_new_tokens, 5 * longest // 4),
                settings.temperature,
                settings.top_k,
                settings.seed + number * TRIES + attempt,
            )
            progress.phase((0.3 if attempt else 0.7) / settings.rewrites, len(again))
            written = generate(self._base, [prompts[index] for index in again], sampling, batch_size=BATCH)
            for index, generation in zip(again, written, strict=True):
                kept = faithful(originals[index], generation.text)
                best[index] = min(best[index], kept, key=partial(likeness, originals[index]))
        return best


def _title(document: Document) -> str:
    return document.title or block_sentences(document.text)[0][:80]


@dataclass(frozen=True)
class _Asked:
    """A question to complete."""

    document: int  # index
    candidate: Candidate
    start: str  # its first words
    whole: bool  # whether they are a complete question


@dataclass(frozen=True)
class _Draft:
    """A sound question."""

    asked: _Asked
    text: str
    origin: str  # "written" if the model completed it, else "rule"
    prompt: list[int]
    ids: list[int]  # of the model's ending

    @property
    def by_rule(self) -> bool:
        """Whether the rule's words are the whole question, so that fluency does not matter."""
        return self.asked.whole and self.text == f"{self.asked.start}?"

    def scored(self, title: str, likelihood: float, fluency: float) -> ScoredPair:
        """The pair with its marks. The title is put before a question that does not name it."""
        about = "" if names_title(self.text, title) else f"{title}: "
        pair = QAPair(f"{about}{self.text}", self.asked.candidate.answer, self.asked.candidate.sentence)
        return ScoredPair(pair, {"how": self.origin, "likelihood": likelihood, "question": fluency})


def _rank(scored: ScoredPair) -> tuple[bool, float]:
    """Sort key: questions completed by the model first, then by likelihood."""
    return scored.marks["how"] == "rule", -float(scored.marks["likelihood"]) - float(scored.marks["question"])
