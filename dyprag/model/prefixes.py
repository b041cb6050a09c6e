"""Prefix cache: the keys and values of prompts that were read, so that a passage asked about again is not read again.

Every adapter has a tree of its own, since its states differ from another's from the first adapted layer on. A node
holds the states of some tokens that follow its parent's; prompts that begin alike share the nodes of their beginning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile

import torch
from torch import Tensor

States = list[tuple[Tensor, Tensor]]  # keys and values of each layer, [heads, tokens, head size]
KEPT_BYTES = 256 * 2**20
LEAST_SHARED = 16  # tokens; a shorter beginning is read again, which costs about as much as copying its states


@dataclass(eq=False)
class _Node:
    """The states of some tokens in one tree; `used` orders nodes by their last use."""

    tokens: tuple[int, ...]
    states: States
    parent: "_Node | None"
    used: int = 0
    children: dict[int, "_Node"] = field(default_factory=dict)  # by their first token

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for pair in self.states for t in pair)


class PrefixCache:
    """States of read prompts by adapter and tokens, at most `most_bytes`; the ones used longest ago are dropped first.

    Not thread-safe: it belongs to the engine's thread, or to whoever holds the model's lock.
    """

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most, self._bytes, self._clock = most_bytes, 0, count(1)
        self._roots: dict[str, _Node] = {}

    @property
    def bytes(self) -> int:
        """The size of the kept states."""
        return self._bytes

    def known(self, adapter: str, tokens: Sequence[int]) -> int:
        """The number of tokens that `find` would return the states of."""
        _, length = self._walk(adapter, tokens[:-1])
        return length if length >= LEAST_SHARED else 0

    def find(self, adapter: str, tokens: Sequence[int]) -> States | None:
        """Return the states of the longest beginning of a prompt that is known; None if it is short.

        The last token is never included: its states give the first logits, which are not kept.

        Args:
            adapter: names the adapter by its content; empty: the plain model.
        """
        path, length = self._walk(adapter, tokens[:-1])
        if length < LEAST_SHARED:
            return None
        for node, _ in path:
            node.used = next(self._clock)
        parts = [[(k[:, :taken], v[:, :taken]) for k, v in node.states] for node, taken in path]
        return parts[0] if len(parts) == 1 else [
            (torch.cat([k for k, _ in layer], 1), torch.cat([v for _, v in layer], 1))
            for layer in zip(*parts, strict=True)
        ]  # fmt: skip

    def add(self, adapter: str, tokens: Sequence[int], states: States) -> None:
        """Keep the states of a prompt's tokens, [heads, tokens, head size] per layer, unless they are known."""
        path, length = self._walk(adapter, tokens)
        if len(tokens) - length < LEAST_SHARED:
            return
        if not path:
            parent = self._roots.setdefault(adapter, _Node((), [], None))
        else:
            last, taken = path[-1]
            parent = last if taken == len(last.tokens) else self._split(last, taken)
        new = [(k[:, length:].clone(), v[:, length:].clone()) for k, v in states]
        node = _Node(tuple(tokens[length:]), new, parent, next(self._clock))
        parent.children[node.tokens[0]] = node
        self._bytes += node.bytes
        self._make_room()

    def _walk(self, adapter: str, tokens: Sequence[int]) -> tuple[list[tuple[_Node, int]], int]:
        """The nodes that the tokens begin with, each with the number of its tokens that agree, and their sum."""
        path: list[tuple[_Node, int]] = []
        length, node = 0, self._roots.get(adapter)
        while node is not None and length < len(tokens):
            child = node.children.get(tokens[length])
            if child is None:
                break
            pairs = zip(child.tokens, tokens[length : length + len(child.tokens)], strict=False)
            taken = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            path.append((child, taken))
            length += taken
            node = child if taken == len(child.tokens) else None
        return path, length

    def _split(self, node: _Node, at: int) -> _Node:
        """Divide a node in two; returns the first. Both get tensors of their own, so that one can be dropped."""
        front = _Node(node.tokens[:at], _cut(node.states, 0, at), node.parent, node.used)
        assert node.parent is not None
        node.parent.children[front.tokens[0]] = front
        front.children[node.tokens[at]] = node
        node.parent, node.tokens, node.states = front, node.tokens[at:], _cut(node.states, at, len(node.tokens))
        return front

    def _make_room(self) -> None:
        while self._bytes > self._most:
            leaf = min((node for node in self._nodes() if not node.children), key=lambda node: node.used)
            assert leaf.parent is not None
            del leaf.parent.children[leaf.tokens[0]]
            self._bytes -= leaf.bytes
            self._roots = {name: root for name, root in self._roots.items() if root.children}

    def _nodes(self) -> Iterator[_Node]:
        waiting = [child for root in self._roots.values() for child in root.children.values()]
        while waiting:
            node = waiting.pop()
            waiting += node.children.values()
            yield node


def _cut(states: States, first: int, last: int) -> States:
    return [(k[:, first:last].clone(), v[:, first:last].clone()) for k, v in states]
