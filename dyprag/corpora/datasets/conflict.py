"""Knowledge conflict (§4): passages that say otherwise than the model believes, and questions answered by them."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dyprag.corpora.datasets.dataset import DataSet, share
from dyprag.corpora.documents import Document, Question


@dataclass(frozen=True)
class Conflict:
    """Questions whose documents contradict the truth.

    Args:
        dataset: each question's answer is what its altered documents say, and they stand in the originals' place.
        believed: the true answers by question id: what a model gives that does not take the documents' word.
    """

    dataset: DataSet
    believed: dict[str, tuple[str, ...]]


def contradict(dataset: DataSet, seed: int) -> Conflict:
    """Put another question's answer in place of the true one in each question's gold documents.

    Only a gold document that holds an answer as whole words is altered, and only its text. The other answer is the
    canonical one of a question of the same type, neither in the document nor part of a true answer. A question is left
    out, and a note says why, where no gold document holds an answer; where its answer is in such a document's title,
    since the document would then tell of another thing; where it asks for yes or no; or where no other answer fits.

    Args:
        dataset: one with short answers and gold documents, such as PopQA with passages.
        seed: of the draw; a question's answer depends on it, on the question and on its candidates only.
    """
    documents = {document.id: document for document in dataset.documents}
    by_type: dict[str, list[str]] = {}
    for kind, answer in sorted({(q.type, q.answers[0]) for q in dataset.questions if q.answers}):
        by_type.setdefault(kind, []).append(answer)
    questions, altered, replaced = [], [], set()
    believed: dict[str, tuple[str, ...]] = {}
    left_out: Counter[str] = Counter()
    for question in dataset.questions:
        holding, reason = _holding(question, [documents[identity] for identity in question.documents])
        draw = random.Random(f"{seed} {question.id}")
        other = _other(question, holding, by_type[question.type], draw) if holding else None
        if other is None:
            left_out[reason or "no other answer of their type fits"] += 1
            continue
        copies = [_altered(document, question, other) for document in holding]
        altered += copies
        replaced |= {document.id for document in holding}
        believed[question.id] = question.answers
        questions.append(replace(question, answers=(other,), documents=tuple(copy.id for copy in copies)))
    kept = (document for document in dataset.documents if document.id not in replaced)
    notes = (f"left out of the conflict, {why}: {share(count, dataset.questions)}" for why, count in left_out.items())
    return Conflict(
        replace(dataset, questions=tuple(questions), documents=(*altered, *kept), notes=(*dataset.notes, *notes)),
        believed,
    )


def _holding(question: Question, gold: Sequence[Document]) -> tuple[list[Document], str]:
    """The gold documents to alter, or why there is none."""
    if {answer.lower() for answer in question.answers} & {"yes", "no"}:
        return [], "they ask for yes or no"
    held = _words(question.answers)
    holding = [document for document in gold if held.search(document.text)]
    if not holding:
        return [], "no gold document holds their answer"
    if any(held.search(document.title) for document in holding):
        return [], "their answer is in the document's title"
    return holding, ""


def _other(question: Question, holding: Sequence[Document], answers: Sequence[str], draw: random.Random) -> str | None:
    """An answer that would be news: not in the documents, and not part of a true answer, nor the other way round."""
    true = _words(question.answers)
    for answer in draw.sample(answers, len(answers)):
        part = _words([answer])
        in_true = true.search(answer) or any(part.search(each) for each in question.answers)
        if not in_true and not any(part.search(document.passage) for document in holding):
            return answer
    return None


def _altered(document: Document, question: Question, other: str) -> Document:
    """A copy that says the other answer wherever it said a true one, with a capital where that had gained one."""

    def put(found: re.Match[str]) -> str:
        gained = found[0] not in question.answers and found[0][:1].isupper()
        return other[:1].upper() + other[1:] if gained else other

    text = _words(question.answers).sub(put, document.text)
    return replace(document, id=f"{document.id} (altered for question {question.id})", text=text)


def _words(answers: Sequence[str]) -> re.Pattern[str]:
    """Finds any of the answers as whole words, the longest first; at the start of a sentence it may have a capital."""
    forms = {form for answer in answers for form in (answer, answer[:1].upper() + answer[1:]) if form}
    longest = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest)) or '(?!)'})(?!\w)")
