"""Ask questions about documents with a question writer, and keep those that two checks find right.

The writer asks about each sentence: about answers that it chooses, and about the names and numbers that rules find.
Then every question is checked against other answers that the passage offers. The plain model, with the passage in its
prompt, has to find that the question calls for the intended answer more than for any other (a round trip). The writer
itself has to find that it would rather ask it for the intended answer than for another one of the sentence.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dyprag.adapters.generation import Generation, Sampling, generate
from dyprag.adapters.likelihood import likelihoods
from dyprag.adapters.lora import Adapters
from dyprag.augmentation.cells import cells
from dyprag.augmentation.checks import doubt
from dyprag.augmentation.scored import ScoredPair
from dyprag.augmentation.spans import LEAST_WORDS, candidates
from dyprag.augmentation.writer.lessons import LONGEST_QUESTION, bare_words
from dyprag.augmentation.writer.prompts import ask_prompt, read_draft
from dyprag.corpora.documents import Document, QAPair
from dyprag.corpora.text.english import LIGHT, same_root
from dyprag.corpora.text.languages import is_latin
from dyprag.corpora.text.sentences import block_sentences
from dyprag.model.base import BaseModel, neutralise
from dyprag.model.prompts import question_prompt
from dyprag.runtime import progress

ASK_TOKENS = 56
SAMPLED = 1  # questions sampled for each sentence, besides the likeliest
TEMPERATURE = 0.8
TOP_K = 40
RIVALS = 5  # other answers of the passage that a question is checked against
BESIDE = 3  # those of the same sentence for which the writer might have asked
UNASKED = "What is it?"  # the question that asks for nothing, against which a question's effect is measured
# Chosen by reading what passes for three demo documents and two papers kept from training; in nats per token.
LEAST_FLUENCY = -0.9  # of the question under the writer
LEAST_LIKELIHOOD = -2.6  # of the answer under the plain model with the passage
LEAST_READ = 0.0  # see `_read`
LEAST_ASKED = 0.05  # see `_asked`
PER_SENTENCE = 2  # names and numbers of a sentence that are asked about
MOST_ANSWER_WORDS = 10
LEAST_GROUNDED = 0.6  # share of a question's content words that the passage must contain
BATCH = 48
_PRONOUNS = frozenset("he she it they him her them his hers its their theirs this that these those".split())
_EDGES = " .,;:!?\"'“”‘’()[]"


@dataclass(frozen=True)
class Draft:
    """A question about a sentence.

    fluency: mean log-probability of the question's tokens under the writer.
    """

    sentence: str
    answer: str
    question: str
    fluency: float


class QuestionWriter:
    """Writes question-answer pairs with a writer's adapter.

    Args:
        adapters: the writer, [1, layers, …].
        seed: of the sampled questions.
    """

    def __init__(self, base: BaseModel, adapters: Adapters, seed: int) -> None:
        self._base, self._seed, self._share = base, seed, 1.0
        self._adapters = adapters.to(base.device, base.dtype)

    def pairs(self, document: Document, share: float = 1.0) -> list[ScoredPair]:
        """Return a document's pairs that passed both checks, the surest of each sentence first.

        Args:
            share: the share of the current computation that this is (dyprag.runtime.progress).
        """
        self._share = share
        drafts = [draft for draft in self._drafts(document) if draft.fluency >= LEAST_FLUENCY]
        likely = self._found(document, [(draft.question, draft.answer) for draft in drafts], 0.1)
        kept = [(draft, mark) for draft, mark in zip(drafts, likely, strict=True) if mark >= LEAST_LIKELIHOOD]
        offered = offered_answers(document, drafts)
        rivals = [rivals_of(draft, offered) for draft, _ in kept]
        read = self._read(document, kept, rivals)
        kept = [both for both, gain in zip(kept, read, strict=True) if gain >= LEAST_READ]
        rivals = [own for own, gain in zip(rivals, read, strict=True) if gain >= LEAST_READ]
        asked = self._asked(document, [draft for draft, _ in kept], rivals)
        scored = []
        for (draft, likelihood), gain in zip(kept, asked, strict=True):
            if gain >= LEAST_ASKED:
                question = _self_contained(draft.question, document.title)
                pair = QAPair(question, draft.answer, draft.sentence)
                marks: dict[str, float | str] = {"how": "writer", "likelihood": likelihood, "question": draft.fluency}
                scored.append((draft.sentence, ScoredPair(pair, marks)))
        return in_turns(scored)

    def _drafts(self, document: Document) -> list[Draft]:
        """The sound questions that the writer asks, without duplicates."""
        tokenizer = self._base.tokenizer
        sentences = [s for s in block_sentences(document.text)
                     if len(s.split()) > LEAST_WORDS and is_latin(s) and not cells(s)]  # fmt: skip
        chosen = [(sentence, "") for sentence in sentences]
        found = candidates(document.title, document.text)
        for sentence in sentences:
            chosen += [(sentence, c.answer) for c in found if c.sentence == sentence][:PER_SENTENCE]
        likeliest = self._written(document, chosen, Sampling(ASK_TOKENS))
        free = [(sentence, "") for sentence in sentences for _ in range(SAMPLED)]
        sampled = self._written(document, free, Sampling(ASK_TOKENS, TEMPERATURE, TOP_K, self._seed))
        drafts: dict[str, Draft] = {}
        for (sentence, given), generation in zip([*chosen, *free], [*likeliest, *sampled], strict=True):
            answer, question = (given, generation.text.strip()) if given else read_draft(generation.text)
            if spelled := sound(document, sentence, answer, question):
                start = 0 if given else len(tokenizer(f" {answer}\nQuestion:", add_special_tokens=False)["input_ids"])
                fluency = _mean_log(generation.probabilities[start:])
                drafts.setdefault(question, Draft(sentence, spelled, question, fluency))
        return list(drafts.values())

    def _written(self, document: Document, asked: Sequence[tuple[str, str]], sampling: Sampling) -> list[Generation]:
        prompts = [ask_prompt(self._base.tokenizer, document, sentence, answer) for sentence, answer in asked]
        progress.phase(0.3 * self._share, len(prompts))
        return generate(
            self._base, prompts, sampling, lambda batch: self._adapters, batch_size=BATCH, stop_at_newline=False
        )

    def _found(self, document: Document, asked: Sequence[tuple[str, str]], share: float) -> list[float]:
        """The mean log-likelihood of each question's answer under the plain model with the passage in its prompt.

        Args:
            asked: questions and answers.
            share: the share of the document's work that this is.
        """
        tokenizer = self._base.tokenizer
        prompts = [question_prompt(tokenizer, question, [document.passage]) for question, _ in asked]
        progress.phase(share * self._share, len(prompts))
        return likelihoods(self._base, prompts, [self._ids(f" {answer}.") for _, answer in asked])

    def _read(
        self, document: Document, drafts: Sequence[tuple[Draft, float]], rivals: Sequence[Sequence[tuple[str, str]]]
    ) -> list[float]:
        """How the plain model with the passage in its prompt understands each question.

        Args:
            drafts: each with the likelihood of its answer.

        Returns:
            By how much the question makes the intended answer likelier, in nats per token, more than the rival that it
            makes likelier most.
        """
        answers = [
            [draft.answer, *(answer for _, answer in own)] for (draft, _), own in zip(drafts, rivals, strict=True)
        ]
        known = list(dict.fromkeys(answer for offered in answers for answer in offered))
        before = dict(zip(known, self._found(document, [(UNASKED, answer) for answer in known], 0.1), strict=True))
        after = iter(self._found(
            document,
            [(draft.question, answer) for (draft, _), offered in zip(drafts, answers, strict=True)
             for answer in offered[1:]],
            0.1,
        ))  # fmt: skip
        gains = []
        for (draft, likelihood), offered in zip(drafts, answers, strict=True):
            of_rivals = [next(after) - before[answer] for answer in offered[1:]]
            gains.append(likelihood - before[draft.answer] - max(of_rivals, default=-math.inf))
        return gains

    def _asked(
        self, document: Document, drafts: Sequence[Draft], rivals: Sequence[Sequence[tuple[str, str]]]
    ) -> list[float]:
        """By how much likelier the writer asks each question for its answer than for a rival of the same sentence.

        In nats per token of the question, against the rival for which it would most likely ask it.
        """
        tokenizer = self._base.tokenizer
        prompts: list[list[int]] = []
        questions: list[list[int]] = []
        counts = []
        for draft, own in zip(drafts, rivals, strict=True):
            beside = [answer for sentence, answer in own if sentence == draft.sentence][:BESIDE]
            counts.append(len(beside))
            prompts += [ask_prompt(tokenizer, document, draft.sentence, answer) for answer in (draft.answer, *beside)]
            questions += [[*self._ids(f" {draft.question}"), tokenizer.eos_token_id]] * (1 + len(beside))
        progress.phase(0.1 * self._share, len(prompts))
        found = iter(likelihoods(self._base, prompts, questions, adapter=self._adapters))
        return [next(found) - max((next(found) for _ in range(count)), default=-math.inf) for count in counts]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._base.tokenizer(neutralise(text, self._base.tokenizer), add_special_tokens=False)[
            "input_ids"
        ]
        return ids


def offered_answers(document: Document, drafts: Sequence[Draft]) -> list[tuple[str, str]]:
    """Return the answers that a passage and its drafts offer, each with its sentence before it."""
    return [(c.sentence, c.answer) for c in candidates("", document.text)] + [(d.sentence, d.answer) for d in drafts]


def rivals_of(draft: Draft, offered: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the answers that a question could be mistaken to ask for, those of the draft's own sentence first."""
    own, question = f" {draft.answer.lower()} ", draft.question.lower()
    rivals: dict[str, tuple[str, str]] = {}
    for sentence, answer in sorted(offered, key=lambda item: item[0] != draft.sentence):
        lower = answer.lower()
        if f" {lower} " not in own and own not in f" {lower} " and lower not in question:
            rivals.setdefault(lower, (sentence, answer))
    return list(rivals.values())[:RIVALS]


def in_turns(pairs: Sequence[tuple[str, ScoredPair]]) -> list[ScoredPair]:
    """Order pairs so that each sentence has its turn: all sentences' best, then their second best, and so on."""
    by_sentence: dict[str, list[ScoredPair]] = {}
    for sentence, pair in sorted(pairs, key=lambda item: -sureness(item[1])):
        by_sentence.setdefault(sentence, []).append(pair)
    most = max(map(len, by_sentence.values()), default=0)
    turns = [[own[turn] for own in by_sentence.values() if turn < len(own)] for turn in range(most)]
    return [pair for turn in turns for pair in sorted(turn, key=sureness, reverse=True)]


def sureness(scored: ScoredPair) -> float:
    """How likely a pair is right and well worded: the sum of its log-likelihoods."""
    return float(scored.marks["likelihood"]) + float(scored.marks["question"])


def sound(document: Document, sentence: str, answer: str, question: str) -> str:
    """Return the answer as the sentence spells it; empty if the pair is not sound by its words.

    The answer must be in the sentence and not in the question. The question must end with a question mark and use
    names, numbers and mostly words of the passage. It must not depend on an earlier one ("What did she do?").
    """
    answer = answer.strip(_EDGES)
    found = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", sentence, re.IGNORECASE) if answer else None
    words = question.split()
    if not found or len(answer.split()) > MOST_ANSWER_WORDS or answer.lower() in question.lower():
        return ""
    if not question.endswith("?") or question.count("?") > 1 or not 4 <= len(words) <= LONGEST_QUESTION:
        return ""
    asked, passage = bare_words(question), {word.lower() for word in bare_words(document.passage)}
    names = [word for word in asked[1:] if word[0].isupper() or any(map(str.isdigit, word))]
    if not all(word.lower() in passage for word in names):
        return ""
    content = [word.lower() for word in asked if word.lower() not in LIGHT]
    grounded = sum(any(same_root(word, other) for other in passage) for word in content)
    if not content or grounded < LEAST_GROUNDED * len(content):
        return ""
    if not names and _PRONOUNS & {word.lower() for word in asked}:
        return ""
    pair = QAPair(question, found.group(), sentence)
    return "" if doubt(document, pair) else found.group()


def _self_contained(question: str, title: str) -> str:
    """Put the title before a question that contains no name, so that it can be understood alone."""
    named = any(word[0].isupper() or word.lower() in title.lower().split() for word in bare_words(question)[1:])
    return question if named or not title else f"{title}: {question}"


def _mean_log(probabilities: Sequence[float]) -> float:
    logs = [math.log(max(p, 1e-9)) for p in probabilities]
    return sum(logs) / len(logs) if logs else -20.0
