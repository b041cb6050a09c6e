"""What a question writer learns from: passages with questions that people wrote, and the sentence that answers each.

The files are those of `dyprag.translators.lessons.human`, and the same passages are held out.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dyprag.corpora.documents import Document
from dyprag.corpora.text.english import LIGHT, same_root
from dyprag.corpora.text.sentences import block_sentences
from dyprag.corpora.text.words import WORD
from dyprag.errors import CorpusError
from dyprag.translators.lessons.human import (
    FEWEST_WORDS,
    MOST_ANSWER_WORDS,
    MOST_WORDS,
    WHOLE_SETS,
    Part,
    human_sets,
    is_held_out,
    rows_of,
)

LONGEST_QUESTION = 24  # words
LEAST_OF_SENTENCE = 0.5  # share of a question's content words that its sentence or title must contain
LEAST_OF_PASSAGE = 0.6  # share of them that the passage must contain
_ORDER = 7_368_787


@dataclass(frozen=True)
class Asked:
    """A question about a passage, its answer, and the sentence of the passage that contains the answer."""

    sentence: str
    answer: str
    question: str


@dataclass(frozen=True)
class WriterLesson:
    """A passage with questions about it, and the name of the set that it comes from."""

    document: Document
    asked: tuple[Asked, ...]
    source: str

    @property
    def texts(self) -> tuple[str, ...]:
        """All that training reads of it."""
        return self.document.key, *(text for x in self.asked for text in (x.sentence, x.answer, x.question))


def writer_lessons(
    folder: Path, part: Part, most_words: int = MOST_WORDS, least_questions: int = 1
) -> list[WriterLesson]:
    """Load a part's passages with the questions that a single sentence answers, taking turns between the sets.

    Left out are questions that need more than one sentence or that were written carelessly; see `grounded`.

    Args:
        folder: the folder with the files.
        part: "training", "held-out" or "other-kinds", as in `human_lessons`.
        most_words: maximum number of words of a passage.
        least_questions: minimum number of questions about a passage.

    Raises:
        CorpusError: there is no usable question, or a file is malformed.
    """
    by_set = []
    for name, path in human_sets(folder).items():
        if (part == "other-kinds") == name.startswith(WHOLE_SETS):
            lessons = [lesson for lesson in _lessons(path, part, most_words) if len(lesson.asked) >= least_questions]
            random.Random(f"{_ORDER} {name}").shuffle(lessons)
            by_set.append(lessons)
    spread = (  # each set evenly over the whole
        ((index + 0.5) / len(lessons), number, lesson)
        for number, lessons in enumerate(by_set)
        for index, lesson in enumerate(lessons)
    )
    placed = [lesson for *_, lesson in sorted(spread, key=lambda item: item[:2])]
    if not placed:
        raise CorpusError(
            f"folder {folder}", "none of its questions is answered by a single sentence", "Give another folder."
        )
    return placed


def _lessons(path: Path, part: Part, most_words: int) -> Iterator[WriterLesson]:
    for row in rows_of(path):
        text = row["text"].strip()
        if not FEWEST_WORDS <= len(text.split()) <= most_words:
            continue
        if part != "other-kinds" and is_held_out(text) != (part == "held-out"):
            continue
        document = Document(row["id"], text, row["title"])
        asked = [found for question in row["questions"] if (found := grounded(document, question))]
        random.Random(row["id"]).shuffle(asked)
        if asked:
            yield WriterLesson(document, tuple(asked), path.name.split(".jsonl")[0])


def grounded(document: Document, question: dict[str, Any]) -> Asked | None:
    """Return a question with the sentence that answers it; None if it is not a good example.

    Good examples end with a question mark, begin with a capital letter, do not contain the answer, and share words
    with one sentence that contains the answer word for word.
    """
    words = " ".join(question["question"].split())
    words = words.removesuffix("?").rstrip() + "?" if words.endswith("?") else words
    if question["type"] != "extractive" or not words.endswith("?") or not words[0].isupper():
        return None
    if not 4 <= len(words.split()) <= LONGEST_QUESTION:
        return None
    content = _content(words)
    answers = sorted(set(question["answers"]), key=lambda answer: (len(answer.split()), answer))
    passage = _content(document.passage)
    if not content or _share(content, passage) < LEAST_OF_PASSAGE:
        return None
    best: tuple[float, Asked] | None = None
    title = _content(document.title)
    for answer in (answer.strip(" .,;:") for answer in answers):
        if not answer or len(answer.split()) > MOST_ANSWER_WORDS or answer.lower() in words.lower():
            continue
        found = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)", re.IGNORECASE)
        for sentence in block_sentences(document.text):
            if match := found.search(sentence):
                share = _share(content, (*_content(sentence), *title))
                if share >= LEAST_OF_SENTENCE and (best is None or share > best[0]):
                    best = share, Asked(sentence, match.group(), words)
    return best[1] if best else None


def bare_words(text: str) -> list[str]:
    """Return the words of a text without the ending of a genitive."""
    return [match.group().replace("’", "'").removesuffix("'s") for match in WORD.finditer(text)]


@lru_cache(maxsize=1024)  # the same sentences for each question of a passage
def _content(text: str) -> tuple[str, ...]:
    return tuple(word for word in bare_words(text.lower()) if word not in LIGHT)


def _share(words: Sequence[str], others: Sequence[str]) -> float:
    return sum(any(same_root(word, other) for other in others) for word in words) / max(1, len(words))
