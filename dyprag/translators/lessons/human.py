"""Questions that people wrote about passages, in one layout: what a translator may be trained on, and what is kept to
measure it with.

A file NAME.jsonl or NAME.jsonl.gz holds a passage a line: {"id", "title", "text", "questions": [{"question", "answers",
"type"}]}, with a type of extractive, boolean or free. A twentieth of each file's passages, chosen by how their text
begins, and the whole of WHOLE_SETS are held out: no training reads them.
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
WHOLE_SETS = ("covidqa", "squadshifts_amazon", "molweni", "qmsum")  # other kinds of text than any that is trained on
HELD_OUT = 20  # one passage in so many
BEGINNING = 8  # words that tell a passage: edits of one passage, which begin alike, stay together
MOST_ANSWER_WORDS = 8  # a longer answer is seldom said in the same words
FEWEST_WORDS, MOST_WORDS = 20, 400
_ORDER = 1_000_003


def human_sets(folder: Path) -> dict[str, Path]:
    """The files of single passages in a folder, by set.

    Raises:
        CorpusError: there is none.
    """
    paths = [*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]
    found = {path.name.split(".jsonl")[0]: path for path in sorted(paths) if "text" in _first(path)}
    if not found:
        raise CorpusError(f"folder {folder}", "it has no passage files (NAME.jsonl.gz)", "Name another.")
    return found


def human_lessons(folder: Path, part: Part, most: int, questions: int = 1) -> list[Lesson]:
    """Passages of a part with questions that have short answers, the same number of each set as far as they go.

    Args:
        folder: holds the files.
        part: "training": what may be trained on; "held-out": the twentieth of the same sets; "other-kinds": WHOLE_SETS.
        most: passages in all.
        questions: of each passage at most.

    Raises:
        CorpusError: no such files, or one that is malformed.
    """
    by_set = []
    for name, path in human_sets(folder).items():
        if (part == "other-kinds") == name.startswith(WHOLE_SETS):
            found = list(_lessons(path, part, questions))
            random.Random(f"{_ORDER} {name}").shuffle(found)
            if found:
                by_set.append(found)
    dealt = [lessons[turn] for turn in range(most) for lessons in by_set if turn < len(lessons)]
    return dealt[:most]


def is_held_out(text: str) -> bool:
    """Whether a passage belongs to the twentieth that no training reads."""
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
        asked = [one for one in row["questions"] if has_short_answers(one)]
        random.Random(row["id"]).shuffle(asked)
        if asked := asked[:most]:
            seen.add(beginning)
            pairs = tuple(QAPair(q["question"], q["answers"][0], f"The answer is {q['answers'][0]}.") for q in asked)
            others = tuple(tuple(q["answers"][1:]) for q in asked)
            yield Lesson(Document(row["id"], text, row["title"]), pairs, others)


def has_short_answers(question: dict[str, Any]) -> bool:
    """Whether an answer's words can be looked for in an output: those of qmsum, say, are whole sentences."""
    answers = question["answers"] if question["type"] in ("extractive", "boolean") else ()
    return bool(answers) and all(len(answer.split()) <= MOST_ANSWER_WORDS for answer in answers)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """A file's lines.

    Raises:
        CorpusError: it cannot be read, or is malformed.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"file {path}", f"it cannot be read ({error})", "Download it again, or remove it.") from error


def _first(path: Path) -> dict[str, Any]:
    return next(rows_of(path), {})
