"""Detects from its losses whether the training of a document's adapter failed.

At a learning rate that suits most documents, AdamW leaves the minimum for a few of them: the loss stays finite, but the
adapter only repeats one phrase. `parametrize` trains such documents again at a smaller rate.
"""

from collections.abc import Sequence
from statistics import mean

SMALLER = (1 / 3, 1 / 9)  # factors on the learning rate, tried in turn until the training succeeds
TAIL = 4  # the last 1 / TAIL of an epoch is taken as the end of the training


def fault(losses: Sequence[float], epochs: int, after: float) -> str:
    """Describe what is wrong with a training; empty if it went well.

    Args:
        losses: the loss of each step before its update. The first is the base model's, or that
            of the adapter that the training started from.
        epochs: number of passes over the samples; the mean losses of epochs are compared.
        after: the loss on the first step's samples after the last update.
    """
    if not losses or losses[0] == 0:  # there was nothing to learn
        return ""
    if not after < losses[0]:  # also true for NaN
        return f"the loss did not fall (on the same samples {losses[0]:.2f} before and {after:.2f} after)"
    steps = len(losses) // epochs
    if epochs < 2 or steps == 0:
        return ""
    epoch = [mean(losses[start : start + steps]) for start in range(0, steps * epochs, steps)]
    tail = mean([*losses[-max(1, steps // TAIL) :], after])
    if tail > 2 * min(epoch) and tail > epoch[0] / 2:
        best = epoch.index(min(epoch)) + 1
        return (
            f"the loss rose again (mean of epoch 1: {epoch[0]:.2f}, of epoch {best}: {min(epoch):.2f}, end: {tail:.2f})"
        )
    return ""
