"""The answer in an output, and whether a text says it: what is compared, and how words are made comparable.

Texts are compared by the words of the official code (§4.1), and in one spelling (`folded`). Scripts without spaces, and
Korean, are compared by their letters, as in the evaluations of MLQA, CMRC 2018 and KorQuAD.

Presence asks whether the answer occurs anywhere in the uncut output, which the form of an answer cannot inflate as
easily as it does F1.
"""

import re
import string
from collections.abc import Sequence

import regex

from dyprag.corpora.text.forms import RANGE, SPELLED_AS_ASCII, folded
from dyprag.corpora.text.words import units

YES_NO = frozenset({"yes", "no"})
# The full stop, the comma and the end of a line, in the signs of every script.
_END_OF_ANSWER = regex.compile(r"[.,\n。．｡，､、،۔।॥։።፣។၊။།᠂᠃]")
# Marks that no Latin text has: those of the official code's languages stay with the words that they touch.
_OTHER_MARKS = regex.compile(r"[^\P{P}\x00-\u036f\u2000-\u206f\u2e00-\u2e7f]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PRINTED_MARKS = regex.compile(r"[^\P{P}\x00-\x7f]|[^\P{S}\x00-\x7f]")


def extract_answer(prediction: str, chain_of_thought: bool = False) -> str:
    """The part of a prediction that is scored.

    With chain of thought, what follows the first 'the answer is' (in lower case, as the official code looks for it);
    then, in both cases, up to the first full stop, comma or line break.
    """
    text = prediction
    if chain_of_thought and "the answer is" in text:
        text = text[text.index("the answer is") + len("the answer is") :]
    return _END_OF_ANSWER.split(text.strip(), maxsplit=1)[0].strip()


def normalise(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces (the usual SQuAD normalisation); in one
    spelling, and letters that are compared by themselves parted by a space."""
    text = folded(_OTHER_MARKS.sub(" ", text)).translate(_PUNCTUATION)
    return " ".join(units(re.sub(r"\b(a|an|the)\b", " ", text)))


def answer_presence(output: str, answers: str | Sequence[str]) -> bool:
    """Whether an answer, or one of its aliases, occurs in the whole output, as whole words and both normalised.

    Of yes and no, whichever the output says first decides.
    """
    if _is_present(output, aliases_of(answers)):
        return True
    ranges = RANGE.search(output) or any(RANGE.search(answer) for answer in aliases_of(answers))
    return bool(ranges) and _is_present(RANGE.sub("-", output), [RANGE.sub("-", one) for one in aliases_of(answers)])


def _is_present(output: str, answers: Sequence[str]) -> bool:
    wanted = {_spaced(answer) for answer in answers} - {""}
    found = _spaced(output)
    said = next((word for word in found.split() if word in YES_NO), None)
    return said in wanted or any(f" {answer} " in f" {found} " for answer in wanted - YES_NO)


def aliases_of(answers: str | Sequence[str]) -> Sequence[str]:
    return [answers] if isinstance(answers, str) else answers


def _spaced(text: str) -> str:
    """Normalised; the quotation marks and dashes of print, which the usual normalisation leaves on the words that they
    touch, part words."""
    return normalise(_PRINTED_MARKS.sub(lambda found: found[0] if found[0] in SPELLED_AS_ASCII else " ", text))
