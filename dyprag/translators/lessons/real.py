"""Real paragraphs as lessons: PopQA's to be asked about (§4.1), and others, apart from those, to train a translator on.

A question is asked without its paragraph, so no paragraph that tells of a test question's subject may be trained on.
"""

import csv
import io
import json
import random
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dyprag.augmentation.questions import gap_pair
from dyprag.augmentation.spans import Candidate, candidates
from dyprag.corpora.datasets import load_dataset
from dyprag.corpora.datasets.factoid import POPQA
from dyprag.corpora.datasets.files import Layout, find_file
from dyprag.corpora.documents import Document, QAPair, Question
from dyprag.corpora.reader import read_documents, read_rows, read_text
from dyprag.corpora.retrieval.passages import read_passages
from dyprag.translators.lessons.extraction import extracted_pairs
from dyprag.translators.lessons.lesson import Lesson
from dyprag.translators.lessons.wording import sentences

POPQA_PASSAGES = Layout("popqa", "passages.jsonl", "JSON lines of id, title and text")
TWO_WIKI_PASSAGES = Layout("2wikimultihopqa", "passages.jsonl", "JSON lines of id, title and text")
TWO_WIKI_QUESTIONS = Layout("2wikimultihopqa", "questions.jsonl", "JSON lines of question and answer")
DPR = Layout("dpr", "psgs_w100.tsv", "tab-separated id, text and title, with a header")

FEWEST_WORDS, MOST_WORDS, CUT_AT = 20, 160, 130  # words of a passage; a longer one is cut at a sentence's end
FEWEST_PAIRS = 1
_WORD = re.compile(r"\w+")


def popqa_lessons(data: Path) -> list[Lesson]:
    """PopQA's questions by the paragraph that holds one of their answers, in the paragraphs' order.

    A pair's answer is the canonical one; `popqa_answers` has all that are right. A question is with its subject's
    paragraph, or one titled by an alias of its subject; it is left out where none of them holds an answer.

    Args:
        data: the folder that holds popqa/popQA.tsv and popqa/passages.jsonl.

    Raises:
        CorpusError: a file is missing or malformed.
    """
    documents, subjects = _popqa_documents(data), _subjects(data)
    titled: dict[str, list[Document]] = {}
    for document in documents:
        titled.setdefault(document.title, []).append(document)
    asked: dict[str, list[QAPair]] = {}
    for question in _popqa_questions(data):
        held = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, question.answers))})(?!\w)", re.IGNORECASE)
        about = [document for title in subjects[question.id] for document in titled.get(title, ())]
        holding = next((document for document in about if held.search(document.text)), None)
        if holding is not None:
            full = f"The answer to the question about {holding.title} is {question.answers[0]}."
            asked.setdefault(holding.id, []).append(QAPair(question.question, question.answers[0], full))
    return [Lesson(document, tuple(asked[document.id])) for document in documents if document.id in asked]


def popqa_answers(data: Path) -> dict[str, tuple[str, ...]]:
    """All right answers by question, the canonical one first; of two subjects of one name, those of both."""
    answers: dict[str, tuple[str, ...]] = {}
    for question in _popqa_questions(data):
        answers[question.question] = tuple(dict.fromkeys((*answers.get(question.question, ()), *question.answers)))
    return answers


def multihop_lessons(data: Path, limit: int, most: int) -> list[Lesson]:
    """Paragraphs of HotpotQA's and 2WikiMultihopQA's test questions, with sentences with a gap, as augmentation asks
    them too: the sets' own questions need two paragraphs each. In an order by chance, the same every time.

    Args:
        data: the folder that holds the sets' folders.
        limit: take at most so many of each set.
        most: pairs of each at most.

    Raises:
        CorpusError: a file is missing or malformed.
    """
    lessons: list[Lesson] = []
    for name in ("hotpotqa", "2wikimultihopqa"):
        loaded = load_dataset(name, data)
        gold = {identity for question in loaded.questions for identity in question.documents}
        documents = [one for one in loaded.documents if not gold or one.id in gold]  # 2WikiMultihopQA's are not named
        documents = [replace(one, text=_cut(_tidied(one.text))) for one in documents]
        asked = [Lesson(one, tuple(_gaps(one)[:most])) for one in documents]
        asked = [lesson for lesson in asked if lesson.pairs]
        random.Random(name).shuffle(asked)
        lessons += asked[:limit]
    return lessons


def _gaps(document: Document) -> list[QAPair]:
    """The best gap of each sentence, in the order of `candidates`."""
    best: dict[str, Candidate] = {}
    for found in candidates(document.title, document.text):
        best.setdefault(found.sentence, found)
    return [gap_pair(document.title, found) for found in best.values()]


def extracted_lessons(data: Path, seed: int, limit: int | None = None, blanks: int = 1, gaps: int = 0) -> list[Lesson]:
    """Paragraphs that no test question is about, with pairs that rules find; in an order by the seed.

    The paragraphs are those of 2WikiMultihopQA, DPR's file and HotpotQA's distractors. IIRC's are not taken, since all
    are gold.

    Args:
        data: the folder that holds the sets' folders, as `popqa_lessons` takes it.
        seed: of the order, wordings and blanks; a passage's pairs depend on it and on the passage only.
        limit: take at most so many.
        blanks: sentences with a blank among a passage's pairs, at most.
        gaps: further ones with a gap, as augmentation asks them, at most.

    Raises:
        CorpusError: a file is missing or malformed, also one that only says what to leave out.
    """
    held_out = _held_out(data)
    passages = [passage for passage in _passages(data) if not held_out.touches(passage)]
    random.Random(seed).shuffle(passages)
    lessons: list[Lesson] = []
    for passage in passages:
        if limit is not None and len(lessons) >= limit:
            break
        draw = random.Random(f"{seed} {passage.key}")
        found = [pair for _, pair in extracted_pairs(passage, draw, blanks)]
        if gaps:
            others = _gaps(passage)
            found += draw.sample(others, min(gaps, len(others)))
        if len(found) >= FEWEST_PAIRS:
            lessons.append(Lesson(passage, tuple(found)))
    return lessons


@dataclass(frozen=True)
class _HeldOut:
    """What training must not tell of: `titles` as a passage's title, `names` of two words or more anywhere in it."""

    titles: frozenset[str]
    names: frozenset[str]
    questions: tuple[str, ...]

    def touches(self, passage: Document) -> bool:
        forms = _forms(passage.title)
        if forms & self.titles or _mentions(passage.passage, self.names):
            return True
        keys = [_key(form) for form in forms]
        return any(key in question for question in self.questions for key in keys)


def _held_out(data: Path) -> _HeldOut:
    titles = [document.title for document in _popqa_documents(data)]
    names: list[str] = []
    for subject, *others in _subjects(data).values():
        titles += [subject, *others]
        names.append(subject)
    hotpot = load_dataset("hotpotqa", data)
    gold = {identity for question in hotpot.questions for identity in question.documents}
    titles += [document.title for document in hotpot.documents if document.id in gold]
    titles += [document.title for document in load_dataset("2wikimultihopqa", data).documents]
    rows = read_rows(find_file(TWO_WIKI_QUESTIONS, data), TWO_WIKI_QUESTIONS.name)
    asked = tuple(_key(str(row.get("question"))) for _, row in rows)
    folded = frozenset(form for title in titles for form in _forms(title))
    return _HeldOut(folded, frozenset(_key(name) for name in names if " " in name), asked)


def _passages(data: Path) -> Iterator[Document]:
    """Every passage at hand: tidied, cut, each once, none a list of links."""
    hotpot = load_dataset("hotpotqa", data).documents
    seen: set[tuple[str, str]] = set()
    read = [passage for layout in (TWO_WIKI_PASSAGES, DPR) for passage in read_passages(find_file(layout, data))]
    for passage in (*read, *hotpot):
        text = _cut(_tidied(passage.text))
        mark = (passage.title.casefold(), text[:60].casefold())
        if mark in seen or len(text.split()) < FEWEST_WORDS or not passage.title or "may refer to" in text[:120]:
            continue
        seen.add(mark)
        yield replace(passage, id=f"passage-{len(seen)}", text=text)


def _tidied(text: str) -> str:
    """The text with the spaces that its source lost or gained at brackets, hyphens and quotation marks set right."""
    text = re.sub(r"(?<=\w)\( ?", " (", " ".join(text.split()))
    text = re.sub(r"(?<=\w)- (?!(?:and|or|to)\b)(?=\w)", "-", text)
    parts = text.split('"')
    if len(parts) % 2 == 1:
        for inside in range(1, len(parts), 2):
            if parts[inside].startswith(" ") and not parts[inside - 1].endswith((" ", "(")):
                parts[inside], parts[inside - 1] = parts[inside].lstrip(), f"{parts[inside - 1]} ".lstrip()
    return '"'.join(parts)


def _cut(text: str) -> str:
    """A text of more than `MOST_WORDS`: as many of its sentences as have at most `CUT_AT` words, but at least one."""
    if len(text.split()) <= MOST_WORDS:
        return text
    kept: list[str] = []
    count = 0
    for sentence in sentences(text):
        count += len(sentence.split())
        if kept and count > CUT_AT:
            break
        kept.append(sentence)
    return " ".join(kept)


def _mentions(text: str, names: Collection[str], most_words: int = 8) -> bool:
    words = _key(text).split()
    grams = (" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, i + 1 + most_words))
    return any(f" {gram} " in names for gram in grams)


def _forms(title: str) -> set[str]:
    """A title folded, and without its parenthesis."""
    return {title.casefold().strip(), re.sub(r"\s*\([^)]*\)", "", title).casefold().strip()} - {""}


def _key(text: str) -> str:
    """Its words, folded, with a space around each: so that one text in another is whole words in it."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _popqa_documents(data: Path) -> tuple[Document, ...]:
    read = read_documents(str(find_file(POPQA_PASSAGES, data / "popqa")))
    return tuple(replace(document, id=f"popqa-{document.id}") for document in read)


def _popqa_questions(data: Path) -> tuple[Question, ...]:
    return load_dataset(POPQA.name, data).questions


def _subjects(data: Path) -> dict[str, tuple[str, ...]]:
    """By question id: the subject, its article's title and its aliases."""
    path = find_file(POPQA, data)
    found = {}
    for row in csv.DictReader(io.StringIO(read_text(path, POPQA.name)), delimiter="\t"):
        try:
            aliases = json.loads(row.get("s_aliases") or "[]")
        except ValueError as error:
            raise POPQA.wrong(f"{path} ({row['id']})", f"its 's_aliases' are not JSON ({error})") from error
        names = (row.get("subj") or "", row.get("s_wiki_title") or "", *aliases)
        found[row["id"]] = tuple(dict.fromkeys(name for name in names if name))
    return found
