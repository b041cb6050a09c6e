"""How the invented documents say and ask their facts: reads the blocks of the modules beside it, one block a fact.

A block's first line is: key; kinds of subject; vocabularies of its answer. Then: `+` predicates of the subject, `=`
whole statements, `:` labels in notes, `?` questions, `!` the full answer; indented lines go on. {S} {O} {P} are the
subject as subject, object and possessive; {v} the answer, {a} its article.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from dyprag.translators.lessons.wordings_organisations import ORGANISATIONS
from dyprag.translators.lessons.wordings_people import PEOPLE
from dyprag.translators.lessons.wordings_things import THINGS
from dyprag.translators.lessons.words import CLOSED

Band = Literal["closed", "open"]


@dataclass(frozen=True)
class Fact:
    """A kind of fact: from which vocabularies its answer comes, and how it is told and asked."""

    key: str
    vocabularies: tuple[str, ...]
    predicates: tuple[str, ...]
    statements: tuple[str, ...]
    labels: tuple[str, ...]
    questions: tuple[str, ...]
    full_answer: str


@cache
def facts(kind: str, band: Band) -> tuple[Fact, ...]:
    """Facts about a kind of subject, each with those of its vocabularies that belong to the band."""
    found = []
    for block in "\n".join((PEOPLE, ORGANISATIONS, THINGS)).strip().split("\n\n"):
        head, *lines = block.strip().replace("\n    ", " ").split("\n")
        key, kinds, vocabularies = (part.strip() for part in head.split(";"))
        said = {line[0]: tuple(part.strip() for part in line[1:].split(" | ")) for line in lines}
        fitting = tuple(name for name in vocabularies.split() if (name in CLOSED) == (band == "closed"))
        if kind in kinds.split() and fitting:
            found.append(Fact(key, fitting, said["+"], said["="], said[":"], said["?"], said["!"][0]))
    return tuple(found)


# Fillers hold no fact that is asked about. The first are for people, the others for all else.
PERSONAL_FILLERS = tuple(
    (
        "{S} is known as a quiet neighbour | {S} rarely gives interviews | little else is known about {O} | "
        "{P} letters have not survived | {S} has a good sense of humour | friends describe {O} as patient | "
        "{S} never speaks about the past | {P} handwriting is hard to read | {S} sleeps badly before long journeys | "
        "{P} portrait hangs in the hall | {S} is seldom late | few people have heard of {O} | {S} dislikes crowds | "
        "{P} memory for faces is remarkable | the neighbours speak well of {O} | {S} answers every letter by hand"
    ).split(" | ")
)
FILLERS = tuple(
    (
        "opinions about {O} are divided | little else is known about {O} | {P} future is uncertain | "
        "a photograph of {O} has been lost | {S} has seen better days | not everyone is fond of {O} | "
        "{P} story has been told many times | {S} deserves more attention | experts disagree about {O} | "
        "{P} name is often misspelt | visitors remember {O} well | nobody expected {O} to last so long | "
        "{S} has changed little over time | much of what is said about {O} is rumour | "
        "older people still talk about {O} | a longer account of {O} is in preparation | "
        "{P} reputation has grown | critics have been kind to {O}"
    ).split(" | ")
)


@dataclass(frozen=True)
class Style:
    """A manner of writing: how it opens, how it introduces a statement, how often it uses labels for sentences."""

    openings: tuple[str, ...]
    leads: tuple[str, ...]
    labelled: float = 0.0


STYLES = (
    Style(("This entry is about {name}.", "The following is recorded of {name}.", "About {name}:"), ("",)),
    Style(("A portrait of {name}.", "Not many have heard of {name}.", "What is known about {name}?"),
          ("", "", "it is often forgotten that ", "in fact, ", "as is well known, ")),
    Style(("{name} made the news again this week.", "Our reporter went to find out about {name}.",
           "There is renewed interest in {name}."),
          ("", "", "according to the local paper, ", "a spokesman confirmed that ", "records show that ",
           "it was reported that ", "witnesses recall that ")),
    Style(("Dear friend, you asked me about {name}.", "Today I learned a good deal about {name}.",
           "I must tell you about {name}.", "I have been thinking of {name} all day."),
          ("", "", "I am told that ", "imagine, ", "as far as I know, ", "I had no idea that ",
           "you may remember that ")),
    Style(("Notes on {name}.", "For the file: {name}.", "Summary for {name}."), ("", "note that "), 0.6),
    Style(("Catalogue entry: {name}.", "Entry: {name}.", "From the register: {name}."), ("",), 0.9),
    Style(("On the tour we heard about {name}.", "Our guide talked at length about {name}."),
          ("", "", "the guide said that ", "we were told that ", "apparently, ", "it turns out that ")),
    Style(("Everyone here has a story about {name}.", "Ask anyone about {name}."),
          ("", "", "they say that ", "people around here know that ", "as everyone says, ", "it is no secret that ")),
)  # fmt: skip
