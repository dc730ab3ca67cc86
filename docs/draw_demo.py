"""Draw the picture of the demo from a real run: ``python docs/draw_demo.py``; it needs the extra ``cli``."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 100
PICTURE = Path(__file__).parent / "images" / "demo.svg"


def main() -> None:
    """Run the demo, and keep what it says as a picture."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH)}
    command = [sys.executable, "-m", "altcraft_async", "demo"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    run = subprocess.run(command, env=environment, check=True, **streams)  # noqa: S603 - our own command
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\x1b[32m$\x1b[0m altcraft-async demo\n" + run.stdout.rstrip()))
    drawn = console.export_svg(title="altcraft-async demo", theme=MONOKAI, unique_id="demo")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # no network: the reader's own font
    said = "The demo pushes thousands of updates through faults, and finds that everything arrived, once and in order."
    drawn = drawn.replace("<svg ", '<svg role="img" ', 1).replace("<style>", f"<title>{said}</title>\n<style>", 1)
    PICTURE.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
