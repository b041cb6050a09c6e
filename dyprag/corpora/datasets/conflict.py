"""Knowledge conflict (§4): passages that are altered to contradict the true facts, and questions about them."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dyprag.corpora.datasets.dataset import DataSet, share
from dyprag.corpora.documents import Document, Question


@dataclass(frozen=True)
class Conflict:
    """Questions whose documents contradict the true facts.

    Args:
        dataset: the data set, with altered documents in place of the originals and the altered answers.
        believed: the true answers by question id, which a model gives if it ignores the documents.
    """

    dataset: DataSet
    believed: dict[str, tuple[str, ...]]


def contradict(dataset: DataSet, seed: int) -> Conflict:
    """Replace the true answer in each question's gold documents by another question's answer.

    Only gold documents that contain an answer as whole words are altered, and only their texts. The new answer is the
    canonical answer of a question of the same type; it is neither in the document nor part of a true answer. A question
    is excluded, and a note gives the reason, if no gold document contains an answer, if the title of such a document
    contains the answer (the document would then be about something else), if it is a yes/no question, or if no other
    answer fits.

    Args:
        dataset: a data set with short answers and gold documents, such as PopQA with passages.
        seed: the random seed. A question's new answer depends only on the seed, the question and its candidates.
    """
    documents = {document.id: document for document in dataset.documents}
    by_type: dict[str, list[str]] = {}
    for kind, answer in sorted({(q.type, q.answers[0]) for q in dataset.questions if q.answers}):
        by_type.setdefault(kind, []).append(answer)
    questions, altered, replaced = [], [], set()
    believed: dict[str, tuple[str, ...]] = {}
    excluded: Counter[str] = Counter()
    for question in dataset.questions:
        originals, reason = _to_alter(question, [documents[identity] for identity in question.documents])
        generator = random.Random(f"{seed} {question.id}")
        new_answer = _new_answer(question, originals, by_type[question.type], generator) if originals else None
        if new_answer is None:
            excluded[reason or "no other answer of their type fits"] += 1
            continue
        copies = [_altered(document, question, new_answer) for document in originals]
        altered += copies
        replaced |= {document.id for document in originals}
        believed[question.id] = question.answers
        questions.append(replace(question, answers=(new_answer,), documents=tuple(copy.id for copy in copies)))
    kept = (document for document in dataset.documents if document.id not in replaced)
    notes = (f"excluded from the conflict, {why}: {share(count, dataset.questions)}" for why, count in excluded.items())
    return Conflict(
        replace(dataset, questions=tuple(questions), documents=(*altered, *kept), notes=(*dataset.notes, *notes)),
        believed,
    )


def _to_alter(question: Question, gold: Sequence[Document]) -> tuple[list[Document], str]:
    """Return the gold documents to alter, or the reason why there are none."""
    if {answer.lower() for answer in question.answers} & {"yes", "no"}:
        return [], "they are yes/no questions"
    pattern = _pattern(question.answers)
    with_answer = [document for document in gold if pattern.search(document.text)]
    if not with_answer:
        return [], "no gold document contains their answer"
    if any(pattern.search(document.title) for document in with_answer):
        return [], "their answer is in the document's title"
    return with_answer, ""


def _new_answer(
    question: Question, documents: Sequence[Document], answers: Sequence[str], generator: random.Random
) -> str | None:
    """Draw an answer that is not in the documents, and neither contains a true answer nor is part of one."""
    true = _pattern(question.answers)
    for answer in generator.sample(answers, len(answers)):
        pattern = _pattern([answer])
        overlaps = true.search(answer) or any(pattern.search(each) for each in question.answers)
        if not overlaps and not any(pattern.search(document.passage) for document in documents):
            return answer
    return None


def _altered(document: Document, question: Question, answer: str) -> Document:
    """Return a copy with the true answers replaced. A true answer capitalised for its position stays capitalised."""

    def substitute(match: re.Match[str]) -> str:
        capitalised = match[0] not in question.answers and match[0][:1].isupper()
        return answer[:1].upper() + answer[1:] if capitalised else answer

    text = _pattern(question.answers).sub(substitute, document.text)
    return replace(document, id=f"{document.id} (altered for question {question.id})", text=text)


def _pattern(answers: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern for any of the answers as whole words, longest first, also with a capital first letter."""
    forms = {form for answer in answers for form in (answer, answer[:1].upper() + answer[1:]) if form}
    longest = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest)) or '(?!)'})(?!\w)")
