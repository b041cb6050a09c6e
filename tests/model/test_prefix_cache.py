"""The prefix cache: what an earlier prompt began with is found again, and never under another adapter."""

import random
from itertools import takewhile

import pytest
import torch

from dyprag.model.prefixes import LEAST_SHARED, PrefixCache, States

PAGE = random.Random(3).choices(range(3, 300), k=70)


def states_of(adapter: str, tokens: list[int]) -> States:
    """States that tell which adapter and which tokens they belong to: each depends on all tokens up to its own."""
    sums = [hash((adapter, *tokens[: n + 1])) % 1000003 for n in range(len(tokens))]
    layer = torch.tensor(sums, dtype=torch.float64)[None, :, None].expand(2, -1, 3)
    return [(layer, -layer), (layer + 1, -layer - 1)]


@pytest.mark.parametrize("seed", range(8))
def test_found_states_are_those_of_the_adapter_and_the_tokens(seed: int):
    draw = random.Random(seed)
    cache = PrefixCache(most_bytes=8 * 24 * draw.choice([100, 400, 4000]))
    kept: dict[str, list[list[int]]] = {"": [], "a": [], "b": []}
    for _ in range(300):
        adapter = draw.choice(list(kept))
        begin = draw.choice(kept[adapter])[: draw.randrange(120)] if kept[adapter] and draw.random() < 0.7 else []
        tokens = begin + [draw.randrange(4) for _ in range(draw.randrange(1, 90))]
        found = cache.find(adapter, tokens)
        assert cache.known(adapter, tokens) == (found[0][0].shape[1] if found else 0)
        if found:
            length = found[0][0].shape[1]
            assert LEAST_SHARED <= length < len(tokens)
            for mine, right in zip(found, states_of(adapter, tokens[:length]), strict=True):
                assert torch.equal(mine[0], right[0])
                assert torch.equal(mine[1], right[1])
            shared = max(_shared(tokens, other) for other in kept[adapter])
            assert length <= shared
        if draw.random() < 0.7:
            cache.add(adapter, tokens, states_of(adapter, tokens))
            kept[adapter].append(tokens)
        assert 0 <= cache.bytes <= cache._most
        assert cache.bytes == sum(node.bytes for node in cache._nodes())


def _shared(left: list[int], right: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


def test_a_page_with_many_questions_is_kept_once():
    cache = PrefixCache()
    for number in range(50):
        tokens = [*PAGE, 1000 + number, *range(20)]
        cache.add("", tokens, states_of("", tokens))
    page, question = 8 * 24 * len(PAGE), 8 * 24 * 21
    assert cache.bytes == page + 50 * question


def test_the_states_used_longest_ago_are_dropped():
    cache = PrefixCache(most_bytes=8 * 24 * 100)
    pages = [[first] * 40 for first in (1, 2, 3)]
    for page in pages[:2]:
        cache.add("", page, states_of("", page))
    assert cache.known("", [*pages[0], 9])
    cache.find("", [*pages[0], 9])
    cache.add("", pages[2], states_of("", pages[2]))
    assert [cache.known("", [*page, 9]) for page in pages] == [40, 0, 40]
