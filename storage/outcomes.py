"""How a unit of work can end: the word for it in the catalogue, and in the counts of a stage's summary."""

from enum import StrEnum


class Outcome(StrEnum):
    """What became of a unit of work (a document, a batch of answers) in a stage. Its value is what is stored."""

    WAITING = "waiting"  # nothing, so far: a later run takes it up
    DONE = "done"  # made by this run
    PARTIAL = "partial"  # there, but not all that was asked for; made by this run where it took an attempt
    CACHED = "cached"  # found made
    FAILED = "failed"
