"""Sentences of a passage with a blank: the questions that fit any passage, whatever it tells of."""

import random
import re
from collections.abc import Collection, Iterator

from dyprag.corpora.documents import Document, QAPair
from dyprag.translators.lessons.wording import DATE, NOT_A_NAME, sentences

BLANK = "___"
WINDOW = 25  # words of the sentence that stay around the blank
_NAME = r"(?:[A-Z][\w'’-]+)(?: (?:(?:of|de|von|van|der|la|the) )?[A-Z][\w'’-]+){0,4}"
_SPAN = re.compile(rf"(?<![\w,.$£€-])(?:{DATE}|{_NAME}|\d[\d,.]*\d(?: million)?|\d)(?![\w%-])")


def cloze_pairs(
    document: Document, name: str, known: Collection[str], most: int, draw: random.Random
) -> Iterator[QAPair]:
    """At most `most` pairs, each with another sentence where there are enough.

    Args:
        document: its text holds every answer exactly once.
        name: what the document is about; no answer shares a word with it.
        known: answers that other pairs have.
        most: how many are wanted.
        draw: chooses sentences, spans and wordings.
    """
    own = {word.casefold() for word in re.findall(r"\w+", document.title)}
    choices = []
    for number, sentence in enumerate(sentences(document.text)):
        spans = [found for found in _SPAN.finditer(sentence) if _askable(found, sentence, document.text, own, known)]
        draw.shuffle(spans)
        choices += [(place, number, sentence, span) for place, span in enumerate(spans)]
    draw.shuffle(choices)
    asked: set[str] = set()
    for _, _, sentence, span in sorted(choices, key=lambda choice: choice[0]):
        pair = _pair(sentence, span, name, draw)
        if len(asked) == most:
            return
        if pair is not None and pair.answer not in asked:
            asked.add(pair.answer)
            yield pair


def _askable(found: re.Match[str], sentence: str, text: str, own: set[str], known: Collection[str]) -> bool:
    answer, words = found[0], set(found[0].split())
    inside = any(answer in each or each in answer for each in known)
    date = re.fullmatch(DATE, answer) is not None
    starts = found.start() == 0 and " " not in answer  # a capital there says nothing
    return not (
        starts
        or inside
        or (not date and words & NOT_A_NAME)
        or {word.casefold() for word in re.findall(r"\w+", answer)} & own
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
    keep = max(side, WINDOW - 1 - len(right)), max(side, WINDOW - 1 - len(left))
    start = "… " if len(left) > keep[0] else ""
    end = " …" if len(right) > keep[1] else ""
    head, tail = start + " ".join(left[-keep[0] :]), " ".join(right[: keep[1]]) + end
    shown = f"{head}{BLANK}{tail}"
    if name.casefold() in shown.casefold():
        wordings = (f"Fill in the blank: {shown}", f"Which word or name is missing? {shown}")
    else:
        wordings = (
            f"Fill in the blank about {name}: {shown}",
            f"About {name}: {shown} Which word or name is missing?",
        )
    question = draw.choice(wordings)
    if span[0].casefold() in question.casefold():
        return None
    return QAPair(question, span[0], f"{before}{span[0]}{after}")
