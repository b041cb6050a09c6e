"""The reading order of boxes on a page: from top to bottom, and column by column.

The page is split at a gap between columns or, if there is none, into horizontal bands (recursive XY-cut, Nagy and Seth
1984). Adjacent bands with a common gap stay together; otherwise two columns would be read line by line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

GUTTER = 5.0  # minimum gap between columns, in points


@dataclass(frozen=True)
class Box:
    """The position of an object on a page. `top` and `bottom` are measured from the top; `number` identifies it."""

    number: int
    left: float
    right: float
    top: float
    bottom: float


def in_reading_order(boxes: Sequence[Box]) -> list[Box]:
    """Return the boxes in reading order."""
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
    if len(groups) == 1:  # the whole page has no columns, as checked above
        groups = bands
    return [box for group in groups for box in in_reading_order(group)]


def _columns(boxes: Sequence[Box]) -> list[list[Box]]:
    """Return the boxes left and right of a gap between boxes that are side by side; empty without such a gap."""
    ordered = sorted(boxes, key=lambda box: box.left)
    reach = ordered[0].right
    for index, box in enumerate(ordered[1:], start=1):
        left, right = ordered[:index], ordered[index:]
        if box.left >= reach + GUTTER and _side_by_side(left, right):
            return [left, right]
        reach = max(reach, box.right)
    return []


def _side_by_side(left: Sequence[Box], right: Sequence[Box]) -> bool:
    top = max(min(box.top for box in left), min(box.top for box in right))
    bottom = min(max(box.bottom for box in left), max(box.bottom for box in right))
    return bottom > top


def _bands(boxes: Sequence[Box]) -> list[list[Box]]:
    """Split the boxes into horizontal bands that no box crosses, from top to bottom."""
    bands: list[list[Box]] = []
    reach = float("-inf")
    for box in sorted(boxes, key=lambda box: box.top):
        if box.top >= reach - 1:
            bands.append([])
        bands[-1].append(box)
        reach = max(reach, box.bottom)
    return bands
