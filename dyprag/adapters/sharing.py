"""Plan how a batch of prompts is read: rows with the same adapter that begin alike, once up to where they differ.

Few-shot examples are common to all rows, a passage to all questions about it. States differ between adapters, so rows
with different adapters share nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

MIN_SHARED_PREFIX = 32  # a shorter prefix is not worth a separate forward pass
PASS_TOKENS = 64  # the number of tokens that cost as much as one more forward pass
MOST_LENGTHS = 32  # lengths of prefixes that are tried as the ends of passes


@dataclass(frozen=True)
class Pass:
    """One forward pass over a batch. Each row continues a row of the pass before.

    tokens: the new tokens of each row.
    parents: for each row, the row of the pass before that it continues; empty in the first pass.
    prompts: for each row, the index of a prompt that begins with the row's tokens, those of earlier passes included. It
        has the row's adapter.
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
    return _passes(prompts, _layout(list(map(len, prompts)), range(len(prompts)), [], ()))


def plan(prompts: Sequence[Sequence[int]], adapters: Sequence[int]) -> list[Pass]:
    """Return the cheapest passes that read all prompts: at most three.

    The cost is the number of tokens, padding included, and `PASS_TOKENS` for each pass.

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
    ends = sorted({length for length in shared if length >= MIN_SHARED_PREFIX})
    ends = ends[:: -(-len(ends) // MOST_LENGTHS)] if ends else []
    cuts = [cut for count in range(3) for cut in combinations(ends, count)]
    lengths = list(map(len, prompts))
    return _passes(prompts, min((_layout(lengths, order, shared, cut) for cut in cuts), key=_cost))


def common_length(left: Sequence[int], right: Sequence[int]) -> int:
    """The number of leading tokens that two prompts share, without the last token of either."""
    limit = max(0, min(len(left), len(right)) - 1)
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


@dataclass(frozen=True)
class _Row:
    """A row of a pass: tokens `begin` to `end` of a prompt, after those of a row of the pass before."""

    prompt: int
    parent: int
    begin: int
    end: int


def _cost(layout: Sequence[Sequence[_Row]]) -> int:
    return sum(len(rows) * max(row.end - row.begin for row in rows) + PASS_TOKENS for rows in layout)


def _passes(prompts: Sequence[Sequence[int]], layout: Sequence[Sequence[_Row]]) -> list[Pass]:
    return [
        Pass(
            tuple(prompts[row.prompt][row.begin : row.end] for row in rows),
            tuple(row.parent for row in rows) if number else (),
            tuple(row.prompt for row in rows),
        )
        for number, rows in enumerate(layout)
    ]


def _layout(
    lengths: Sequence[int], order: Sequence[int], shared: Sequence[int], cuts: Sequence[int]
) -> list[list[_Row]]:
    """Read in a pass for each of `cuts` (ascending) what groups of rows share that have at least so much in common."""
    layout: list[list[_Row]] = []
    row_of, read = [0] * len(lengths), [0] * len(lengths)  # of each prompt so far
    for cut in cuts:
        groups = list(_groups(lengths, order, shared, cut))
        layout.append([_Row(first, row_of[first], read[first], end) for (first, *_), end in groups])
        for row, (members, end) in enumerate(groups):
            for member in members:
                row_of[member], read[member] = row, end
    return [*layout, [_Row(index, row_of[index], read[index], length) for index, length in enumerate(lengths)]]


def _groups(
    lengths: Sequence[int], order: Sequence[int], shared: Sequence[int], cut: int
) -> Iterator[tuple[list[int], int]]:
    """Yield neighbours in `order` that share at least `cut` tokens, and how many of their tokens are read by then.

    A prompt that shares too little is read by itself, up to its last token: it costs less here than as a long row
    among the short rests of others.
    """
    members, end = [order[0]], lengths[order[0]] - 1
    for index, common in zip(order[1:], shared, strict=True):
        if common >= cut:
            members.append(index)
            end = min(end, common)
        else:
            yield members, end
            members, end = [index], lengths[index] - 1
    yield members, end
