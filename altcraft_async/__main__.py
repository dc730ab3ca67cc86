"""``python -m altcraft_async``: the same as the script ``altcraft-async``."""

from __future__ import annotations

from altcraft_async.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
