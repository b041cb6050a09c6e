"""Cloze questions: a passage's sentences with a blank. They can be made from any passage."""

import random
import re
from collections.abc import Collection, Iterator

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.wording import DATE, NOT_A_NAME, sentences

BLANK = "___"
WINDOW = 25  # words of the sentence that are kept around the blank
_NAME = r"(?:[A-Z][\w'’-]+)(?: (?:(?:of|de|von|van|der|la|the) )?[A-Z][\w'’-]+){0,4}"
_SPAN = re.compile(rf"(?<![\w,.$£€-])(?:{DATE}|{_NAME}|\d[\d,.]*\d(?: million)?|\d)(?![\w%-])")


def cloze_pairs(
    document: Document, name: str, known: Collection[str], most: int, draw: random.Random
) -> Iterator[QAPair]:
    """Make up to `most` cloze pairs, from different sentences if there are enough.

    Args:
        document: the passage; every answer occurs exactly once in its text.
        name: the document's subject. Answers share no word with its title.
        known: answers of other pairs.
        most: maximum number of pairs.
        draw: random generator for sentences, spans and wordings.
    """
    title_words = {word.casefold() for word in re.findall(r"\w+", document.title)}
    choices = []
    for index, sentence in enumerate(sentences(document.text)):
        spans = [
            match for match in _SPAN.finditer(sentence) if _askable(match, sentence, document.text, title_words, known)
        ]
        draw.shuffle(spans)
        choices += [(rank, index, sentence, span) for rank, span in enumerate(spans)]
    draw.shuffle(choices)
    asked: set[str] = set()
    for _, _, sentence, span in sorted(choices, key=lambda choice: choice[0]):
        pair = _pair(sentence, span, name, draw)
        if len(asked) == most:
            return
        if pair is not None and pair.answer not in asked:
            asked.add(pair.answer)
            yield pair


def _askable(match: re.Match[str], sentence: str, text: str, title_words: set[str], known: Collection[str]) -> bool:
    answer, words = match[0], set(match[0].split())
    overlaps_known = any(answer in each or each in answer for each in known)
    date = re.fullmatch(DATE, answer) is not None
    # a capital at the start of a sentence does not indicate a name
    starts_sentence = match.start() == 0 and " " not in answer
    return not (
        starts_sentence
        or overlaps_known
        or (not date and words & NOT_A_NAME)
        or {word.casefold() for word in re.findall(r"\w+", answer)} & title_words
        or len(re.findall(rf"(?<!\w){re.escape(answer)}(?!\w)", text)) != 1
        or text.casefold().count(answer.casefold()) != 1
        or len(sentence.split()) < 5
    )


def _pair(sentence: str, span: re.Match[str], name: str, draw: random.Random) -> QAPair | None:
    before, after = sentence[: span.start()], sentence[span.end() :]
    before = re.sub(r"^(?:He|She|It|They)(?= )", lambda _: name, before)
    before = re.sub(r"^(?:His|Her|Its|Their)(?= )", lambda _: f"{name}'s", before)
    left, right = before.split(" "), after.split(" ")
    side = (WINDOW - 1) // 2
    kept = max(side, WINDOW - 1 - len(right)), max(side, WINDOW - 1 - len(left))
    start = "… " if len(left) > kept[0] else ""
    end = " …" if len(right) > kept[1] else ""
    head, tail = start + " ".join(left[-kept[0] :]), " ".join(right[: kept[1]]) + end
    cloze = f"{head}{BLANK}{tail}"
    if name.casefold() in cloze.casefold():
        wordings = (f"Fill in the blank: {cloze}", f"Which word or name is missing? {cloze}")
    else:
        wordings = (
            f"Fill in the blank about {name}: {cloze}",
            f"About {name}: {cloze} Which word or name is missing?",
        )
    question = draw.choice(wordings)
    if span[0].casefold() in question.casefold():
        return None
    return QAPair(question, span[0], f"{before}{span[0]}{after}")
