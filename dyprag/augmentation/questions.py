"""Questions that a small model finishes: the prompt that it continues, and which of its questions are sound by rule."""

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
LONGEST = 24  # words; longer ones have lost their way


def ask_prompt(title: str, candidate: Candidate, start: str) -> tuple[str, str]:
    """What the model continues: examples, which all prompts share, and the lines about one answer."""
    lines = _HEAD.format(title=title, sentence=candidate.sentence) + _ASK.format(
        answer=candidate.answer, question=start
    )
    return f"{_SHOTS}\n\n", lines


def tidy(question: str) -> str:
    """A question without the spaces that a model puts before marks and endings."""
    return question.replace(" ?", "?").replace(" 's", "'s").replace(" ,", ",")


def gap_pair(title: str, candidate: Candidate, asked: str = " What is missing?") -> QAPair:
    """A candidate's sentence with a gap in the answer's place, as a question.

    Args:
        asked: what is said behind it; nothing where the document is not in English.
    """
    about = f"{title}: " if title else ""
    return QAPair(f"{about}{candidate.gap}{asked}", candidate.answer, candidate.sentence)


def names_title(question: str, title: str) -> bool:
    """Whether every word of its own of a title stands in a question."""
    return set(_own(_words(title))) <= set(_words(question))


def is_sound(question: str, title: str, candidate: Candidate) -> bool:
    """Whether a question asks for its answer by what its sentence says, as far as the words tell.

    It says nothing that neither the sentence nor the title says, does not give the answer away, and takes up a word
    that stands beside the answer: what is said of something else in the sentence is not a fact about the answer.
    """
    answer, about = set(_own(_words(candidate.answer))), set(_own(_words(title)))
    asked = _own(_words(question))
    if not question.endswith("?") or question.count("?") > 1 or len(question.split()) > LONGEST:
        return False
    given_away = any(word in question for word in candidate.answer.split() if word[0].isupper() or word[0].isdigit())
    before = _words(candidate.sentence[: candidate.place])
    after = _words(candidate.sentence[candidate.place + len(candidate.answer) :])
    said = [*about, *answer, *before, *after]
    given_away = given_away or candidate.answer.lower() in question.lower() or bool(answer & NUMBERS & set(asked))
    if given_away or not all(any(same_root(word, other) for other in said) for word in asked):
        return False
    beside = _own(before, about)[-3:]
    if not question.startswith(("In which year", "Where")):  # these belong to what stands before them
        beside += _own(after, about)[:2]
    owned = before[-1:] in (["has"], ["have"], ["had"]) or before[-2:] in (["there", "are"], ["there", "were"])
    has = owned and names_title(question, title) and bool({"have", "has", "had"} & set(_words(question)))
    return has or any(same_root(word, other) for word in asked if word not in answer for other in beside)


def _words(text: str) -> list[str]:
    words = [match.group().lower().replace("’", "'") for match in WORD.finditer(text)]
    return [word.removesuffix("'s").removesuffix("'") for word in words]


def _own(words: list[str], known: set[str] | frozenset[str] = frozenset()) -> list[str]:
    """Those of the words that say something of their own."""
    return [word for word in words if word not in LIGHT and word not in known]
