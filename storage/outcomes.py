"""The possible outcomes of a unit of work, as the catalogue and the summaries of stages name them."""

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a unit of work (a document, a batch of answers) in a stage. The values are stored in the
    catalogue."""

    WAITING = "waiting"  # not started; a later run continues
    DONE = "done"  # made by this run
    PARTIAL = "partial"  # made, but incomplete; by this run if it has attempts
    CACHED = "cached"  # made by an earlier run
    FAILED = "failed"
