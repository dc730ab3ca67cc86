"""Which items of two sequences are out of place: what a longest common subsequence leaves out of both. Pure."""

from __future__ import annotations

from difflib import SequenceMatcher

__all__ = ["unaligned"]

_EXACT_LIMIT = 4_000_000
"""Cells of the alignment table above which an approximate alignment is used: 4 million take about a second."""


def unaligned(wanted: list[str], made: list[str]) -> tuple[list[int], list[int]]:
    """Return the places of both lists that a longest common subsequence leaves out."""
    start = 0
    shortest = min(len(wanted), len(made))
    while start < shortest and wanted[start] == made[start]:
        start += 1
    end = 0
    while end < shortest - start and wanted[-1 - end] == made[-1 - end]:
        end += 1
    left, right = wanted[start : len(wanted) - end], made[start : len(made) - end]
    pairs = _common(left, right) if len(left) * len(right) <= _EXACT_LIMIT else _roughly_common(left, right)
    kept_left, kept_right = {i for i, _ in pairs}, {j for _, j in pairs}
    return (
        [start + i for i in range(len(left)) if i not in kept_left],
        [start + j for j in range(len(right)) if j not in kept_right],
    )


def _common(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Return the places of one longest common subsequence, by the textbook table."""
    width = len(right)
    table = [[0] * (width + 1)]
    for item in left:
        above = table[-1]
        row = [0]
        for j in range(width):
            row.append(above[j] + 1 if item == right[j] else max(above[j + 1], row[j]))
        table.append(row)
    pairs = []
    i, j = len(left), width
    while i and j:
        if left[i - 1] == right[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i - 1][j] >= table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return pairs


def _roughly_common(left: list[str], right: list[str]) -> list[tuple[int, int]]:
    """Return the places of a long common subsequence, for lines of thousands of differing changes."""
    blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
    return [(block.a + k, block.b + k) for block in blocks for k in range(block.size)]
