"""Whether the training of a document's adapter went well, judged by its losses.

AdamW at a rate that suits most documents takes some of them out of the valley that they were in: the loss stays finite,
and the adapter repeats one phrase for ever. Such a training is done again with a smaller rate: see `parametrize`.
"""

from collections.abc import Sequence
from statistics import mean

SMALLER = (1 / 3, 1 / 9)  # of the learning rate, one after the other, while the training does not go well
TAIL = 4  # the last 1 / TAIL of an epoch says where the training ended


def fault(losses: Sequence[float], epochs: int, after: float) -> str:
    """What is wrong with a training; empty where it went well.

    Args:
        losses: of each step, before its update; the first is the base model's, since a fresh adapter changes nothing.
        epochs: passes over the samples, whose losses can be compared with each other.
        after: the loss on the first step's samples after the last update.
    """
    if not losses or losses[0] == 0:  # nothing was to be learned
        return ""
    if not after < losses[0]:  # NaN is not
        return f"the loss did not fall (on the same samples {losses[0]:.2f} before and {after:.2f} after)"
    size = len(losses) // epochs
    if epochs < 2 or size == 0:
        return ""
    each = [mean(losses[start : start + size]) for start in range(0, size * epochs, size)]
    tail = mean([*losses[-max(1, size // TAIL) :], after])
    if tail > 2 * min(each) and tail > each[0] / 2:
        best = each.index(min(each)) + 1
        return (
            f"the loss rose again (mean of epoch 1: {each[0]:.2f}, of epoch {best}: {min(each):.2f}, end: {tail:.2f})"
        )
    return ""
