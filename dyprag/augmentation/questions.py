"""Questions that a small model completes: the prompt to continue, and rules for which questions are sound."""

from dyprag.augmentation.spans import Candidate
from dyprag.corpora.documents import QAPair
from dyprag.corpora.text.english import LIGHT, NUMBERS, same_root
from dyprag.corpora.text.words import WORD

_HEAD = "About {title}\n{sentence}\n"
_ASK = "Answer: {answer}\nQuestion: {question}"
_EXAMPLES = (
    (
        "Harbour Bakery",
        "It was opened in 1987 by Lena Ortiz, who had sold bread from a blue van for 12 weeks.",
        (
            ("1987", "In which year was the Harbour Bakery opened?"),
            ("Lena Ortiz", "Who opened the Harbour Bakery?"),
            ("12 weeks", "For how many weeks did the founder of the Harbour Bakery sell bread from a van?"),
        ),
    ),
    (
        "Marta Quill",
        "Born in Elmsford, she painted 40 portraits of sailors, won the Golden Brush and kept a parrot called Admiral.",
        (
            ("Elmsford", "Where was Marta Quill born?"),
            ("40 portraits", "How many portraits did Marta Quill paint?"),
            ("Admiral", "What is the name of the parrot that Marta Quill kept?"),
        ),
    ),
    (
        "The Old Tower",
        "The Old Tower is 30 metres tall, its door is made of oak, and the keeper, Jon Abbot, grows leeks.",
        (
            ("30 metres", "How many metres tall is the Old Tower?"),
            ("Jon Abbot", "What is the name of the keeper of the Old Tower?"),
        ),
    ),
)
_SHOTS = "\n\n".join(
    _HEAD.format(title=title, sentence=sentence)
    + "\n".join(_ASK.format(answer=answer, question=question) for answer, question in pairs)
    for title, sentence, pairs in _EXAMPLES
)
LONGEST = 24  # words; longer questions are degenerate


def ask_prompt(title: str, candidate: Candidate, start: str) -> tuple[str, str]:
    """The prompt to continue: examples shared by all prompts, and the lines about one answer."""
    lines = _HEAD.format(title=title, sentence=candidate.sentence) + _ASK.format(
        answer=candidate.answer, question=start
    )
    return f"{_SHOTS}\n\n", lines


def tidy(question: str) -> str:
    """Remove the spaces that a model puts before punctuation and endings."""
    return question.replace(" ?", "?").replace(" 's", "'s").replace(" ,", ",")


def gap_pair(title: str, candidate: Candidate, asked: str = " What is missing?") -> QAPair:
    """A question that is the candidate's sentence with a gap in place of the answer.

    Args:
        asked: the text after the sentence; empty for documents that are not in English.
    """
    about = f"{title}: " if title else ""
    return QAPair(f"{about}{candidate.gap}{asked}", candidate.answer, candidate.sentence)


def names_title(question: str, title: str) -> bool:
    """Whether a question contains every content word of a title."""
    return set(_content(_words(title))) <= set(_words(question))


def is_sound(question: str, title: str, candidate: Candidate) -> bool:
    """Whether a question asks for its answer by what the sentence says, judged by its words.

    It must use only words of the sentence or the title, must not reveal the answer, and must contain a word next to the
    answer; otherwise it may be about something else in the sentence.
    """
    answer, about = set(_content(_words(candidate.answer))), set(_content(_words(title)))
    asked = _content(_words(question))
    if not question.endswith("?") or question.count("?") > 1 or len(question.split()) > LONGEST:
        return False
    given_away = any(word in question for word in candidate.answer.split() if word[0].isupper() or word[0].isdigit())
    before = _words(candidate.sentence[: candidate.place])
    after = _words(candidate.sentence[candidate.place + len(candidate.answer) :])
    context = [*about, *answer, *before, *after]
    given_away = given_away or candidate.answer.lower() in question.lower() or bool(answer & NUMBERS & set(asked))
    if given_away or not all(any(same_root(word, other) for other in context) for word in asked):
        return False
    beside = _content(before, about)[-3:]
    if not question.startswith(("In which year", "Where")):  # years and places belong to the words before them
        beside += _content(after, about)[:2]
    owned = before[-1:] in (["has"], ["have"], ["had"]) or before[-2:] in (["there", "are"], ["there", "were"])
    has = owned and names_title(question, title) and bool({"have", "has", "had"} & set(_words(question)))
    return has or any(same_root(word, other) for word in asked if word not in answer for other in beside)


def _words(text: str) -> list[str]:
    words = [match.group().lower().replace("’", "'") for match in WORD.finditer(text)]
    return [word.removesuffix("'s").removesuffix("'") for word in words]


def _content(words: list[str], known: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """The content words that are not already known."""
    return [word for word in words if word not in LIGHT and word not in known]
