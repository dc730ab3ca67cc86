"""Reading blocks of shell: which commands they run, and which files they write."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Command", "commands"]

_HEADS = frozenset({"if", "then", "elif", "else", "do", "while", "until", "!", "{", "exec"})
_NO_COMMANDS = frozenset({"for", "case", "in", "fi", "done", "esac", "}"})


@attrs.frozen
class Command:
    """A program, by its name without a directory, and its arguments; what a variable gives stands there as ``1``."""

    program: str
    arguments: tuple[str, ...]


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def _simple(line: str) -> Iterator[list[str]]:
    """Cut a line where a command ends, and drop the redirections."""
    words = iter(_words(line))
    found: list[str] = []
    for word in words:
        if not word or word.strip("();<>|&"):
            found.append(word)
        elif word[0] in "<>":
            next(words)  # the file
            if found and found[-1].isdigit():
                found.pop()  # the number of the stream
        else:
            yield found
            found = []
    yield found


def commands(text: str) -> Iterator[Command]:
    """Give the commands of a block, in order."""
    for line in text.replace("\\\n", " ").splitlines():
        for words in _simple(line):
            while words and (words[0] in _HEADS or re.match(r"\w+=", words[0])):
                del words[0]
            if words and words[0] not in _NO_COMMANDS and not words[0].isdigit():
                arguments = (re.sub(r"\$(\w+|\{\w+\})", "1", word) for word in words[1:])
                yield Command(words[0].rpartition("/")[2], tuple(arguments))
