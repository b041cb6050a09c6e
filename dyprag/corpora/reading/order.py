"""The order in which boxes on a page are read: from the top, and where columns stand side by side, one after another.

The page is cut between columns where a gap goes through, and from top to bottom where none does (recursive XY-cut,
Nagy and Seth 1984); bands that one and the same gap goes through stay together, or two columns would be read line by
line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GUTTER = 5.0  # points between columns, at least


@dataclass(frozen=True)
class Box:
    """Where something stands on a page: `top` and `bottom` count from the top; `number` says what it is."""

    number: int
    left: float
    right: float
    top: float
    bottom: float


def in_reading_order(boxes: Sequence[Box]) -> list[Box]:
    """The boxes in the order in which a person reads them."""
    if len(boxes) < 2:
        return list(boxes)
    if parts := _columns(boxes):
        return [box for part in parts for box in in_reading_order(part)]
    bands = _bands(boxes)
    if len(bands) == 1:
        return sorted(boxes, key=lambda box: (box.top, box.left))
    groups = [bands[0]]
    for band in bands[1:]:
        if _columns([*groups[-1], *band]):
            groups[-1] = [*groups[-1], *band]
        else:
            groups.append(band)
    if len(groups) == 1:  # columns would have been found before
        groups = bands
    return [box for group in groups for box in in_reading_order(group)]


def _columns(boxes: Sequence[Box]) -> list[list[Box]]:
    """The boxes left of a gap and right of it, where one goes through between boxes side by side; else nothing."""
    ordered = sorted(boxes, key=lambda box: box.left)
    reach = ordered[0].right
    for place, box in enumerate(ordered[1:], start=1):
        left, right = ordered[:place], ordered[place:]
        if box.left >= reach + GUTTER and _side_by_side(left, right):
            return [left, right]
        reach = max(reach, box.right)
    return []


def _side_by_side(left: Sequence[Box], right: Sequence[Box]) -> bool:
    top = max(min(box.top for box in left), min(box.top for box in right))
    bottom = min(max(box.bottom for box in left), max(box.bottom for box in right))
    return bottom > top


def _bands(boxes: Sequence[Box]) -> list[list[Box]]:
    """The boxes in bands from top to bottom, which no box reaches out of."""
    bands: list[list[Box]] = []
    reach = float("-inf")
    for box in sorted(boxes, key=lambda box: box.top):
        if box.top >= reach - 1:
            bands.append([])
        bands[-1].append(box)
        reach = max(reach, box.bottom)
    return bands
