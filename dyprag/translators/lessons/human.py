"""Questions that people wrote about passages, for training and for measurement.

A file NAME.jsonl or NAME.jsonl.gz has one passage per line: {"id", "title", "text", "questions": [{"question",
"answers", "type"}]}, where the type is extractive, boolean or free. One passage in twenty of each file, chosen by a
hash of the beginning of its text, and all of WHOLE_SETS are held out from training.
"""

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from dyprag.corpora.documents import Document, QAPair
from dyprag.errors import CorpusError
from dyprag.translators.lessons.lesson import Lesson

Part = Literal["training", "held-out", "other-kinds"]
WHOLE_SETS = ("covidqa", "squadshifts_amazon", "molweni", "qmsum")  # kinds of text that do not occur in training
HELD_OUT = 20  # one passage in HELD_OUT is held out
BEGINNING = 8  # words that identify a passage; edited versions of a passage begin alike and stay together
MOST_ANSWER_WORDS = 8  # longer answers are seldom given word for word
FEWEST_WORDS, MOST_WORDS = 20, 400
_ORDER = 1_000_003


def human_sets(folder: Path) -> dict[str, Path]:
    """Find the files of passages in a folder, by name of the set.

    Raises:
        CorpusError: the folder has no such file.
    """
    paths = [*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]
    sets = {path.name.split(".jsonl")[0]: path for path in sorted(paths) if "text" in _first(path)}
    if not sets:
        raise CorpusError(f"folder {folder}", "it has no passage files (NAME.jsonl.gz)", "Give another folder.")
    return sets


def human_lessons(folder: Path, part: Part, most: int | None, questions: int = 1) -> list[Lesson]:
    """Load a part's passages with short-answer questions, taking turns between the sets.

    Args:
        folder: the folder with the files.
        part: "training"; "held-out" for the held-out passages of the same sets; "other-kinds" for WHOLE_SETS.
        most: maximum number of passages; None for all.
        questions: maximum number of questions per passage.

    Raises:
        CorpusError: there are no such files, or one is malformed.
    """
    by_set = []
    for name, path in human_sets(folder).items():
        if (part == "other-kinds") == name.startswith(WHOLE_SETS):
            lessons = list(_lessons(path, part, questions))
            random.Random(f"{_ORDER} {name}").shuffle(lessons)
            if lessons:
                by_set.append(lessons)
    longest = max(map(len, by_set), default=0)
    interleaved = [set_lessons[index] for index in range(longest) for set_lessons in by_set if index < len(set_lessons)]
    return interleaved[:most]


def is_held_out(text: str) -> bool:
    """Whether a passage is held out from training."""
    beginning = " ".join(re.findall(r"\w+", text.lower())[:BEGINNING])
    digest = hashlib.blake2b(beginning.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT == 0


def _lessons(path: Path, part: Part, most: int) -> Iterator[Lesson]:
    seen = set[str]()
    for row in rows_of(path):
        text = row["text"].strip()
        beginning = " ".join(text.split()[:BEGINNING])
        if beginning in seen or not FEWEST_WORDS <= len(text.split()) <= MOST_WORDS:
            continue
        if part != "other-kinds" and is_held_out(text) != (part == "held-out"):
            continue
        questions = [question for question in row["questions"] if has_short_answers(question)]
        random.Random(row["id"]).shuffle(questions)
        if questions := questions[:most]:
            seen.add(beginning)
            pairs = tuple(
                QAPair(question["question"], question["answers"][0], f"The answer is {question['answers'][0]}.")
                for question in questions
            )
            others = tuple(tuple(question["answers"][1:]) for question in questions)
            yield Lesson(Document(row["id"], text, row["title"]), pairs, others)


def has_short_answers(question: dict[str, Any]) -> bool:
    """Whether all answers are short enough to be found in an output; those of qmsum, for example, are sentences."""
    answers = question["answers"] if question["type"] in ("extractive", "boolean") else ()
    return bool(answers) and all(len(answer.split()) <= MOST_ANSWER_WORDS for answer in answers)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a file.

    Raises:
        CorpusError: the file cannot be read or is malformed.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"file {path}", f"it cannot be read ({error})", "Download it again, or remove it.") from error


def _first(path: Path) -> dict[str, Any]:
    return next(rows_of(path), {})
