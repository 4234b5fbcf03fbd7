"""Pictures of what sslpipe shows on a terminal of 80 columns, light and dark: python -m benchmarks.terminal_pictures.

Commands run on a pseudo-terminal in a finished project, `--project`; what they write is drawn as a terminal would. A
picture of a run in progress is its screen after some seconds. Needs Chromium and the extra `dev`.
"""

import argparse
import fcntl
import io
import os
import pty
import re
import select
import shlex
import signal
import struct
import sys
import termios
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

from tests.reporting.browser import found

COLUMNS = 80
SCALE = 1.5
"""Pixels of a picture for each pixel of the page."""
THEMES = {"light": DEFAULT_TERMINAL_THEME, "dark": SVG_EXPORT_THEME}
PAGE = """<meta charset="utf-8"><style>{stylesheet} body {{margin: 0; background: {background}; color: {foreground}}}
pre {{margin: 0; padding: 12px 16px; width: max-content; font: 15px/1.2 'DejaVu Sans Mono', monospace}}</style>
<body><pre>{code}</pre></body>"""
PICTURES = {
    "help": ("sslpipe --help", None),
    "settings": ("sslpipe settings cluster.scan", None),
    "run": ("sslpipe self-label --epochs 4", 25.0),
    "end": ("sslpipe mine-neighbors", None),
    "table": ("sslpipe table", None),
}
"""Name → the command, and after how many seconds its screen is drawn; None: at its end."""
TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|(\r)|(\n)|([^\x1b\r\n]+)")


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows, with their colours as escape sequences."""
    lines: list[list[tuple[str, str]]] = [[]]
    row, column, style = 0, 0, ""
    for numbers, letter, to_start, down, text in TOKEN.findall(written):
        if letter == "m":
            style = "" if numbers in ("", "0") else f"{style}\x1b[{numbers}m"
        elif letter == "A":
            row = max(row - int(numbers or 1), 0)
        elif letter == "K" and numbers == "2":
            lines[row] = []
        elif to_start:
            column = 0
        elif down:
            row, column = row + 1, 0
        for character in text:
            if column == COLUMNS:
                row, column = row + 1, 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            lines[row] += [(" ", "")] * (column + 1 - len(lines[row]))
            lines[row][column] = (character, style)
            column += 1
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(f"{style}{character}\x1b[0m" for character, style in line) for line in lines]


def on_terminal(command: list[str], folder: Path, seconds: float | None) -> str:
    """Return what a command writes on a terminal of COLUMNS columns; it is ended after some seconds if given."""
    child, terminal = pty.fork()
    if not child:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        path = {"PYTHONPATH": str(Path(__file__).parents[1])}
        os.chdir(folder)
        os.execve(command[0], command, {**kept, **path, "TERM": "xterm-256color"})
    written, began = b"", time.monotonic()
    while seconds is None or time.monotonic() - began < seconds:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the end of a terminal, on Linux
            break
        if not part:
            break
        written += part
    os.kill(child, signal.SIGINT)
    os.waitpid(child, 0)
    return written.decode()


def page(lines: list[str], theme: TerminalTheme) -> str:
    """Return lines with escape sequences as a page."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="ignore", crop=False)
    return console.export_html(theme=theme, code_format=PAGE)


def main() -> None:
    """Write <name>-<theme>.webp of the chosen pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PICTURES)}; all by default")
    parser.add_argument("--project", type=Path, required=True, help="folder of a project whose stages have run")
    parser.add_argument("--out", type=Path, default=Path("pictures"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found())
        for name in given.names or PICTURES:
            command, seconds = PICTURES[name]
            arguments = [str(Path(sys.executable).with_name("sslpipe")), *shlex.split(command)[1:]]
            lines = [f"\x1b[1m$ {command}\x1b[0m", *screen(on_terminal(arguments, given.project, seconds))]
            while not Text.from_ansi(lines[-1]).plain.strip():
                lines.pop()
            for theme, colours in THEMES.items():
                tab = browser.new_page(device_scale_factor=SCALE)
                tab.set_content(page(lines, colours))
                picture = Image.open(io.BytesIO(tab.locator("pre").screenshot())).quantize(64)
                picture.convert("RGB").save(given.out / f"terminal-{name}-{theme}.webp", lossless=True, method=6)
                tab.close()
        browser.close()


if __name__ == "__main__":
    main()
