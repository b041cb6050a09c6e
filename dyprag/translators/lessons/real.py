"""Lessons from real paragraphs: PopQA's for measurement (§4.1), and others for training.

Questions are asked without their paragraph, so training excludes every paragraph about a test question's subject.
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

FEWEST_WORDS, MOST_WORDS, CUT_AT = 20, 160, 130  # words per passage; longer ones are cut at the end of a sentence
FEWEST_PAIRS = 1
_WORD = re.compile(r"\w+")


def popqa_lessons(data: Path) -> list[Lesson]:
    """Load PopQA's questions, grouped by the paragraph that contains one of their answers.

    A pair's answer is the canonical one; see `popqa_answers` for all. The paragraph is that of the question's subject,
    or is titled by an alias of it. Questions without such a paragraph are left out.

    Args:
        data: the folder with popqa/popQA.tsv and popqa/passages.jsonl.

    Raises:
        CorpusError: a file is missing or malformed.
    """
    documents, subjects = _popqa_documents(data), _subjects(data)
    titled: dict[str, list[Document]] = {}
    for document in documents:
        titled.setdefault(document.title, []).append(document)
    pairs_by_document: dict[str, list[QAPair]] = {}
    for question in _popqa_questions(data):
        answer_pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, question.answers))})(?!\w)", re.IGNORECASE)
        candidates = [document for title in subjects[question.id] for document in titled.get(title, ())]
        matching = next((document for document in candidates if answer_pattern.search(document.text)), None)
        if matching is not None:
            full_answer = f"The answer to the question about {matching.title} is {question.answers[0]}."
            pairs_by_document.setdefault(matching.id, []).append(
                QAPair(question.question, question.answers[0], full_answer)
            )
    return [
        Lesson(document, tuple(pairs_by_document[document.id]))
        for document in documents
        if document.id in pairs_by_document
    ]


def popqa_answers(data: Path) -> dict[str, tuple[str, ...]]:
    """Return all accepted answers by question, the canonical one first. Subjects of the same name are merged."""
    answers: dict[str, tuple[str, ...]] = {}
    for question in _popqa_questions(data):
        answers[question.question] = tuple(dict.fromkeys((*answers.get(question.question, ()), *question.answers)))
    return answers


def multihop_lessons(data: Path, limit: int, most: int) -> list[Lesson]:
    """Load paragraphs of HotpotQA's and 2WikiMultihopQA's test questions, with gap questions as in augmentation.

    The sets' own questions need two paragraphs each. The order is shuffled with a fixed seed.

    Args:
        data: the folder with the sets' folders.
        limit: maximum number of paragraphs per set.
        most: maximum number of pairs per paragraph.

    Raises:
        CorpusError: a file is missing or malformed.
    """
    lessons: list[Lesson] = []
    for name in ("hotpotqa", "2wikimultihopqa"):
        loaded = load_dataset(name, data)
        gold = {identity for question in loaded.questions for identity in question.documents}
        # 2WikiMultihopQA does not name its gold paragraphs
        documents = [document for document in loaded.documents if not gold or document.id in gold]
        documents = [replace(document, text=_cut(_tidied(document.text))) for document in documents]
        set_lessons = [Lesson(document, tuple(_gaps(document)[:most])) for document in documents]
        set_lessons = [lesson for lesson in set_lessons if lesson.pairs]
        random.Random(name).shuffle(set_lessons)
        lessons += set_lessons[:limit]
    return lessons


def _gaps(document: Document) -> list[QAPair]:
    """Return the best gap pair of each sentence, in the order of `candidates`."""
    best: dict[str, Candidate] = {}
    for candidate in candidates(document.title, document.text):
        best.setdefault(candidate.sentence, candidate)
    return [gap_pair(document.title, candidate) for candidate in best.values()]


def extracted_lessons(data: Path, seed: int, limit: int | None = None, blanks: int = 1, gaps: int = 0) -> list[Lesson]:
    """Load paragraphs that no test question is about, with pairs extracted by rules, in a shuffled order.

    The paragraphs come from 2WikiMultihopQA, DPR's file and HotpotQA's distractors. IIRC is not used, since all its
    paragraphs are gold.

    Args:
        data: the folder with the sets' folders, see `popqa_lessons`.
        seed: seed of the order, wordings and blanks. A passage's pairs depend only on the seed and the passage.
        limit: maximum number of paragraphs.
        blanks: maximum number of cloze pairs per passage.
        gaps: maximum number of gap pairs per passage, as in augmentation.

    Raises:
        CorpusError: a file is missing or malformed, including those that only say what to leave out.
    """
    held_out = _held_out(data)
    passages = [passage for passage in _passages(data) if not held_out.touches(passage)]
    random.Random(seed).shuffle(passages)
    lessons: list[Lesson] = []
    for passage in passages:
        if limit is not None and len(lessons) >= limit:
            break
        draw = random.Random(f"{seed} {passage.key}")
        pairs = [pair for _, pair in extracted_pairs(passage, draw, blanks)]
        if gaps:
            gap_pairs = _gaps(passage)
            pairs += draw.sample(gap_pairs, min(gaps, len(gap_pairs)))
        if len(pairs) >= FEWEST_PAIRS:
            lessons.append(Lesson(passage, tuple(pairs)))
    return lessons


@dataclass(frozen=True)
class _HeldOut:
    """What training passages must not be about.

    titles: excluded as a passage's title.
    names: names of two or more words, excluded anywhere in a passage.
    questions: test questions; a passage is excluded if one of them contains its title.
    """

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
    for subject, *aliases in _subjects(data).values():
        titles += [subject, *aliases]
        names.append(subject)
    hotpot = load_dataset("hotpotqa", data)
    gold = {identity for question in hotpot.questions for identity in question.documents}
    titles += [document.title for document in hotpot.documents if document.id in gold]
    titles += [document.title for document in load_dataset("2wikimultihopqa", data).documents]
    rows = read_rows(find_file(TWO_WIKI_QUESTIONS, data), TWO_WIKI_QUESTIONS.name)
    questions = tuple(_key(str(row.get("question"))) for _, row in rows)
    folded_titles = frozenset(form for title in titles for form in _forms(title))
    return _HeldOut(folded_titles, frozenset(_key(name) for name in names if " " in name), questions)


def _passages(data: Path) -> Iterator[Document]:
    """Iterate over all passages: tidied, cut, without duplicates and disambiguation pages."""
    hotpot = load_dataset("hotpotqa", data).documents
    seen: set[tuple[str, str]] = set()
    passages = [passage for layout in (TWO_WIKI_PASSAGES, DPR) for passage in read_passages(find_file(layout, data))]
    for passage in (*passages, *hotpot):
        text = _cut(_tidied(passage.text))
        identity = (passage.title.casefold(), text[:60].casefold())
        if identity in seen or len(text.split()) < FEWEST_WORDS or not passage.title or "may refer to" in text[:120]:
            continue
        seen.add(identity)
        yield replace(passage, id=f"passage-{len(seen)}", text=text)


def _tidied(text: str) -> str:
    """Repair missing and surplus spaces at brackets, hyphens and quotation marks."""
    text = re.sub(r"(?<=\w)\( ?", " (", " ".join(text.split()))
    text = re.sub(r"(?<=\w)- (?!(?:and|or|to)\b)(?=\w)", "-", text)
    parts = text.split('"')
    if len(parts) % 2 == 1:
        for inside in range(1, len(parts), 2):
            if parts[inside].startswith(" ") and not parts[inside - 1].endswith((" ", "(")):
                parts[inside], parts[inside - 1] = parts[inside].lstrip(), f"{parts[inside - 1]} ".lstrip()
    return '"'.join(parts)


def _cut(text: str) -> str:
    """Cut a text of more than `MOST_WORDS` words to the leading sentences with at most `CUT_AT` words, at least one."""
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
    """Return a title case-folded, with and without its parenthesis."""
    return {title.casefold().strip(), re.sub(r"\s*\([^)]*\)", "", title).casefold().strip()} - {""}


def _key(text: str) -> str:
    """Return the case-folded words, each surrounded by spaces, so that substring search matches whole words."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _popqa_documents(data: Path) -> tuple[Document, ...]:
    read = read_documents(str(find_file(POPQA_PASSAGES, data / "popqa")))
    return tuple(replace(document, id=f"popqa-{document.id}") for document in read)


def _popqa_questions(data: Path) -> tuple[Question, ...]:
    return load_dataset(POPQA.name, data).questions


def _subjects(data: Path) -> dict[str, tuple[str, ...]]:
    """Return the subject, its article's title and its aliases, by question id."""
    path = find_file(POPQA, data)
    names_by_question = {}
    for row in csv.DictReader(io.StringIO(read_text(path, POPQA.name)), delimiter="\t"):
        try:
            aliases = json.loads(row.get("s_aliases") or "[]")
        except ValueError as error:
            raise POPQA.wrong(f"{path} ({row['id']})", f"its 's_aliases' are not JSON ({error})") from error
        names = (row.get("subj") or "", row.get("s_wiki_title") or "", *aliases)
        names_by_question[row["id"]] = tuple(dict.fromkeys(name for name in names if name))
    return names_by_question
