"""Real passages with questions: PopQA's own for tests, and for training questions that rules make from other passages.

What a test question of PopQA, HotpotQA or 2WikiMultihopQA is about is never trained on.
"""

import csv
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from dyprag.documents import Document, QAPair
from dyprag.errors import CorpusError
from dyprag.recall.extraction import extracted_pairs
from dyprag.recall.lessons import Lesson

WORDS = (20, 130)  # a passage's length; longer ones are cut at a sentence's end


def popqa_lessons(data: Path) -> list[Lesson]:
    """PopQA's questions with the paragraphs that hold an answer to them: never trained on."""
    answers = popqa_answers(data)
    lessons = []
    for document, questions in _popqa(data):
        pairs = []
        for question in questions:
            held = [a for a in answers[question] if re.search(rf"\b{re.escape(a)}\b", document.text, re.IGNORECASE)]
            if held:
                pairs.append(QAPair(question, held[0], f"{document.title}: {held[0]}."))
        if pairs:
            lessons.append(Lesson(document, tuple(pairs)))
    return lessons


def popqa_answers(data: Path) -> dict[str, tuple[str, ...]]:
    """All answers that count as right, by question."""
    return {row["question"]: tuple(json.loads(row["possible_answers"])) for row in _popqa_rows(data)}


def _popqa_rows(data: Path) -> list[dict[str, str]]:
    with _open(data / "popqa" / "popQA.tsv") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _popqa(data: Path) -> Iterator[tuple[Document, list[str]]]:
    asked: dict[str, list[str]] = {}
    for row in _popqa_rows(data):
        asked.setdefault(row["s_wiki_title"], []).append(row["question"])
    with _open(data / "popqa" / "passages.jsonl") as file:
        for line in file:
            row = json.loads(line)
            if row["title"] in asked:
                yield Document(f"popqa-{row['id']}", row["text"], row["title"]), asked[row["title"]]


def extracted_lessons(data: Path, seed: int, limit: int | None = None) -> list[Lesson]:
    """Passages of the data sets, none of them about what a test question of PopQA, HotpotQA or 2WikiMultihopQA needs,
    with questions that rules make of their sentences; in an order drawn by the seed."""
    barred = _barred(data)
    made, seen = [], set[str]()
    for title, text in _passages(data):
        name = _plain(title)
        start = (name + text)[:80].casefold()
        if start in seen or name.casefold() in barred or not name:
            continue
        seen.add(start)
        text = _cut(text)
        if not WORDS[0] <= len(text.split()) <= WORDS[1]:
            continue
        document = Document(f"passage-{len(seen)}", text, title)
        pairs = tuple(pair for _, pair in extracted_pairs(document, random.Random(f"{seed}/{start}")))
        if pairs:
            made.append(Lesson(document, pairs))
    random.Random(seed).shuffle(made)
    return made[:limit]


def _plain(title: str) -> str:
    return re.sub(r"\s*\([^)]*\)\s*$", "", title).strip()


def _barred(data: Path) -> set[str]:
    """Titles that test questions are about."""
    titles = {row[column] for row in _popqa_rows(data) for column in ("s_wiki_title", "subj")}
    with _open(data / "popqa" / "passages.jsonl") as file:
        titles |= {json.loads(line)["title"] for line in file}
    with _open(data / "hotpotqa" / "hotpot_dev_distractor_v1.json") as file:
        for row in json.load(file):
            facts = row["supporting_facts"]
            titles |= set(facts["title"]) if isinstance(facts, dict) else {fact[0] for fact in facts}
    questions = []
    with _open(data / "2wikimultihopqa" / "questions.jsonl") as file:
        questions = [json.loads(line)["question"] for line in file]
    words = " ".join(questions).casefold()
    with _open(data / "2wikimultihopqa" / "passages.jsonl") as file:
        titles |= {t for line in file if _plain(t := json.loads(line)["title"]).casefold() in words}
    return {_plain(title).casefold() for title in titles} | {title.casefold() for title in titles}


def _passages(data: Path) -> Iterator[tuple[str, str]]:
    with _open(data / "2wikimultihopqa" / "passages.jsonl") as file:
        for line in file:
            row = json.loads(line)
            yield row["title"], row["text"]
    with _open(data / "hotpotqa" / "hotpot_dev_distractor_v1.json") as file:
        for row in json.load(file):
            context = row["context"]
            pairs = zip(context["title"], context["sentences"], strict=True) if isinstance(context, dict) else context
            for title, sentences in pairs:
                yield title, "".join(sentences).strip()
    with _open(data / "dpr" / "psgs_w100.tsv") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            yield row["title"], row["text"]


def _open(path: Path) -> TextIO:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise CorpusError(
            f"data set {path}", f"it cannot be read ({error.strerror})", "Set learn.data to the data sets' folder."
        ) from error  # fmt: skip


def _cut(text: str) -> str:
    text = " ".join(text.split())
    if len(text.split()) <= WORDS[1]:
        return text
    kept = ""
    for sentence in _sentences(text):
        if len((kept + sentence).split()) > WORDS[1]:
            break
        kept += sentence + " "
    return kept.strip()


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[a-z\d)\"’]\.) (?=[A-Z])", text)
