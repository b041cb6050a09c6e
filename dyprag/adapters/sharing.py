"""Plan how a batch of prompts is read: what rows with the same adapter have in common at their beginning, only once.

Few-shot examples are common to all rows, a passage to all questions about it. States differ between adapters, so rows
with different adapters share nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

MIN_SHARED_PREFIX = 32  # a shorter prefix is not worth a separate forward pass
PASS_TOKENS = 64  # the number of tokens that cost as much as one more forward pass
MOST_LENGTHS = 12  # lengths of prefixes that are tried as the ends of passes


@dataclass(frozen=True)
class Pass:
    """One forward pass over a batch. Each row continues a row of the pass before.

    tokens: the new tokens of each row.
    parents: for each row, the row of the pass before that it continues; empty in the first pass.
    prompts: for each row, the index of a prompt that begins with its tokens; it has the row's adapter.
    """

    tokens: tuple[Sequence[int], ...]
    parents: tuple[int, ...]
    prompts: tuple[int, ...]

    @property
    def width(self) -> int:
        """The number of new tokens of the longest row; shorter ones are padded."""
        return max(len(row) for row in self.tokens)


def whole(prompts: Sequence[Sequence[int]]) -> list[Pass]:
    """Read every prompt by itself, in one pass."""
    return [Pass(tuple(prompts), (), tuple(range(len(prompts))))]


def plan(prompts: Sequence[Sequence[int]], adapters: Sequence[int]) -> list[Pass]:
    """Return the passes that read all prompts with the fewest tokens, padding included; at most three.

    Args:
        prompts: token ids of each prompt.
        adapters: for each prompt, a number that is the same for prompts with the same adapter.

    Returns:
        The passes; the rows of the last one are the prompts, in order, and each has at least one token.
    """
    if min(len(prompt) for prompt in prompts) < 2:
        return whole(prompts)
    order = sorted(range(len(prompts)), key=lambda index: (adapters[index], list(prompts[index])))
    shared = [
        common_length(prompts[left], prompts[right]) if adapters[left] == adapters[right] else 0
        for left, right in pairwise(order)
    ]
    lengths = sorted({length for length in shared if length >= MIN_SHARED_PREFIX})
    lengths = lengths[:: -(-len(lengths) // MOST_LENGTHS)] if lengths else []
    cuts = [cut for count in (1, 2) for cut in combinations(lengths, count)]
    return min([whole(prompts), *(_passes(prompts, order, shared, cut) for cut in cuts)], key=_cost)


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """The number of leading tokens that two prompts share, without the last token of either."""
    limit = min(len(left), len(right)) - 1
    pairs = enumerate(zip(left[:limit], right[:limit], strict=True))
    return next((position for position, (one, other) in pairs if one != other), limit)


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all prompts share.

    At least one token of each prompt is left out. A prefix below `MIN_SHARED_PREFIX` counts as 0.
    """
    if len(prompts) < 2:
        return 0
    # a prefix of both extremes is a prefix of all
    length = min(common_length(min(map(list, prompts)), max(map(list, prompts))), min(map(len, prompts)) - 1)
    return length if length >= MIN_SHARED_PREFIX else 0


def _cost(passes: Sequence[Pass]) -> int:
    return sum(len(each.tokens) * each.width + PASS_TOKENS for each in passes)


def _passes(
    prompts: Sequence[Sequence[int]], order: Sequence[int], shared: Sequence[int], cuts: Sequence[int]
) -> list[Pass]:
    """Read in a pass for each of `cuts` (ascending) what groups of rows share that have at least so much in common."""
    passes: list[Pass] = []
    group_of, read = dict.fromkeys(order, 0), dict.fromkeys(order, 0)  # row and tokens of each prompt so far
    for cut in cuts:
        groups = list(_groups(prompts, order, shared, cut))
        tokens = tuple(prompts[members[0]][read[members[0]] : length] for members, length in groups)
        parents = tuple(group_of[members[0]] for members, _ in groups) if passes else ()
        passes.append(Pass(tokens, parents, tuple(members[0] for members, _ in groups)))
        for row, (members, length) in enumerate(groups):
            for member in members:
                group_of[member], read[member] = row, length
    rows = range(len(prompts))
    rests = tuple(prompts[index][read[index] :] for index in rows)
    return [*passes, Pass(rests, tuple(group_of[index] for index in rows), tuple(rows))]


def _groups(
    prompts: Sequence[Sequence[int]], order: Sequence[int], shared: Sequence[int], cut: int
) -> Iterator[tuple[list[int], int]]:
    """Yield neighbours in `order` that share at least `cut` tokens, and how many of their tokens are read by then.

    A prompt that shares too little is read by itself, up to its last token: it costs less here than as a long row
    among the short rests of others.
    """
    members, length = [order[0]], len(prompts[order[0]]) - 1
    for index, common in zip(order[1:], shared, strict=True):
        if common >= cut:
            members.append(index)
            length = min(length, common)
        else:
            yield members, length
            members, length = [index], len(prompts[index]) - 1
    yield members, length
