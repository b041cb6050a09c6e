"""Augmentation by the base model itself, made for models too small to write question-answer pairs freely.

Questions: every candidate answer is marked in its sentence, the model completes a question whose first words are
given, and the pairs are ranked by how likely the model itself finds the answer with the passage before it (a round
trip); the best with unlike questions and answers stay. Where they are fewer than m, answers not yet asked for are asked
for by their sentence with a gap: every fact is worth a question.
Rewrites: sentence by sentence, and a rewritten sentence that loses a name or a number gives way to the original.
"""

from collections.abc import Sequence

from dyprag.augmentation.spans import Candidate, candidates, key_terms, sentences
from dyprag.batching import Batcher
from dyprag.config import AugmentSettings
from dyprag.documents import Augmentation, Document, QAPair
from dyprag.errors import DocumentError, DocumentTooLong
from dyprag.generation import Sampling, generate, likelihoods
from dyprag.models import BaseModel, neutralise
from dyprag.prompts import question_prompt

LEAST_LIKELIHOOD = -3.5  # mean log-likelihood below which the model does not find the answer in the passage
QUESTION_TOKENS = 20

_ASK = "{title}: {marked}\nAsk for [{answer}]: {start}"
_EXAMPLE = "The bakery was opened in 1987 by Lena Ortiz, who had sold bread from a blue van for 12 weeks."
_ASK_EXAMPLES = "\n\n".join(
    _ASK.format(title="Harbour Bakery", marked=_EXAMPLE.replace(answer, f"[{answer}]"), answer=answer, start=question)
    for answer, question in (
        ("Lena Ortiz", "Who opened the Harbour Bakery?"),
        ("blue van", "What did Lena Ortiz sell bread from?"),
        ("12 weeks", "How many weeks did Lena Ortiz sell bread from a van?"),
    )
)
_GAP = "{about}{gap} What is missing?"
_REWRITE = "Sentence: {sentence}\nIn other words:"
_REWRITE_EXAMPLES = "\n\n".join(
    f"{_REWRITE.format(sentence=sentence)} {rewrite}"
    for sentence, rewrite in (
        (_EXAMPLE, "In 1987 Lena Ortiz, who had sold bread out of a blue van for 12 weeks, opened the bakery."),
        (
            "Visitors may come on Sundays, but only in soft shoes.",
            "On Sundays people may visit if they wear soft shoes.",
        ),
    )
)


class LocalAugmenter:
    """Augments documents with a loaded model; threads call `augment` for one each, the model works on many."""

    def __init__(self, base: BaseModel, settings: AugmentSettings) -> None:
        self._base, self._settings = base, settings
        self._batcher: Batcher[Document, Augmentation] = Batcher(
            lambda documents: enumerate(self.augment_many(documents)), settings.batch_documents
        )

    def augment(self, document: Document) -> Augmentation:
        """Rewrites and question-answer pairs of one document.

        Raises:
            DocumentError: nothing in it can be asked for.
            DocumentTooLong: it does not fit the model's context beside a prompt.
        """
        return self._batcher.submit(document)

    def augment_many(self, documents: Sequence[Document]) -> list[Augmentation | Exception]:
        """The same for several documents at once; each gets its augmentation or its own error."""
        results: list[Augmentation | Exception | None] = [self._refusal(document) for document in documents]
        sound = [index for index, error in enumerate(results) if error is None]
        pairs = self._qa_pairs([documents[index] for index in sound])
        rewrites = self._rewrites([documents[index] for index in sound])
        for index, document_pairs, document_rewrites in zip(sound, pairs, rewrites, strict=True):
            if document_pairs:
                results[index] = Augmentation(document_rewrites, document_pairs)
            else:
                results[index] = DocumentError(
                    f"document {documents[index].id!r}",
                    "the model found nothing in it to ask for",
                    "Give it more text, or leave it out.",
                )
        return [result for result in results if result is not None]

    def _refusal(self, document: Document) -> DocumentError | None:
        subject = f"document {document.id!r}"
        if not document.text.strip():
            return DocumentError(subject, "it has no text", "Give it text, or leave it out.")
        tokens = len(self._base.tokenizer(neutralise(document.passage, self._base.tokenizer))["input_ids"])
        limit = self._base.max_tokens - 128  # question, answer and template stand beside it
        if tokens > limit:
            return DocumentTooLong(
                subject,
                f"it has {tokens:,} tokens and the model's context leaves room for {limit:,}",
                "Split it into shorter passages.",
            )
        return None

    def _qa_pairs(self, documents: Sequence[Document]) -> list[tuple[QAPair, ...]]:
        tokenizer = self._base.tokenizer
        limit = self._settings.qa_pairs + 2  # more would cost time and seldom make a better pair
        spans = [candidates(document.title, document.text) for document in documents]
        asked = [(number, candidate) for number, found in enumerate(spans) for candidate in found[:limit]]
        prompts = [tokenizer(_ask_prompt(_title(documents[n]), c, tokenizer))["input_ids"] for n, c in asked]
        written = generate(self._base, prompts, Sampling(QUESTION_TOKENS), batch_size=32)
        by_document: list[list[tuple[float, QAPair]]] = [[] for _ in documents]
        for number, document in enumerate(documents):
            mine = [
                QAPair(f"{c.start} {generation.text}", c.answer, c.sentence)
                for (n, c), generation in zip(asked, written, strict=True)
                if n == number and generation.text.endswith("?") and c.answer.lower() not in generation.text.lower()
            ]
            questions = [question_prompt(tokenizer, pair.question, [document.passage]) for pair in mine]
            answers = [
                tokenizer(f" {neutralise(pair.answer, tokenizer)}.", add_special_tokens=False)["input_ids"]
                for pair in mine
            ]
            by_document[number] = list(zip(likelihoods(self._base, questions, answers), mine, strict=True))
        return [
            self._best(ranked, spans[number], _title(document))
            for number, (ranked, document) in enumerate(zip(by_document, documents, strict=True))
        ]

    def _best(self, ranked: list[tuple[float, QAPair]], spans: list[Candidate], title: str) -> tuple[QAPair, ...]:
        chosen: list[QAPair] = []
        for likelihood, pair in sorted(ranked, key=lambda item: -item[0]):
            unlike = all(pair.question != other.question and pair.answer != other.answer for other in chosen)
            if unlike and likelihood >= LEAST_LIKELIHOOD and len(chosen) < self._settings.qa_pairs:
                chosen.append(pair)
        for span in spans:
            if len(chosen) >= self._settings.qa_pairs:
                break
            if all(span.answer != other.answer for other in chosen):
                gap = span.sentence.replace(span.answer, "___", 1)
                about = "" if span.answer in title else f"{title}: "
                chosen.append(QAPair(_GAP.format(about=about, gap=gap), span.answer, span.sentence))
        return tuple(chosen)

    def _rewrites(self, documents: Sequence[Document]) -> list[tuple[str, ...]]:
        settings, tokenizer = self._settings, self._base.tokenizer
        originals = [(number, s) for number, document in enumerate(documents) for s in sentences(document.text)]
        texts = [_REWRITE.format(sentence=neutralise(sentence, tokenizer)) for _, sentence in originals]
        prompts = [tokenizer(f"{_REWRITE_EXAMPLES}\n\n{text}")["input_ids"] for text in texts]
        rewrites: list[list[str]] = [[] for _ in documents]
        for number in range(settings.rewrites):
            longest = max((len(tokenizer(neutralise(s, tokenizer))["input_ids"]) for _, s in originals), default=1)
            sampling = Sampling(
                min(settings.max_new_tokens, 5 * longest // 4),
                settings.temperature,
                settings.top_k,
                settings.seed + number,
            )
            written = generate(self._base, prompts, sampling, batch_size=32)
            for index in range(len(documents)):
                kept = [_faithful(s, g.text) for (n, s), g in zip(originals, written, strict=True) if n == index]
                rewrites[index].append(" ".join(kept))
        return [tuple(texts) for texts in rewrites]


def _title(document: Document) -> str:
    return document.title or sentences(document.text)[0][:80]


def _ask_prompt(title: str, candidate: Candidate, tokenizer: object) -> str:
    marked = candidate.sentence.replace(candidate.answer, f"[{candidate.answer}]", 1)
    text = _ASK.format(title=title, marked=marked, answer=candidate.answer, start=candidate.start)
    return f"{_ASK_EXAMPLES}\n\n{neutralise(text, tokenizer)}"


def _faithful(sentence: str, rewrite: str) -> str:
    """The rewrite if it keeps the sentence's names and numbers, adds none and is of like length; else the sentence."""
    wanted, words = key_terms(sentence), rewrite.split()
    invented = {term for term in key_terms(rewrite) if term not in sentence}
    like_length = 0.5 <= len(words) / max(1, len(sentence.split())) <= 1.6
    return rewrite if like_length and not invented and all(term in rewrite for term in wanted) else sentence
