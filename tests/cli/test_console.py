import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from publisher.cli import console
from publisher.cli.console import Commentary

ESCAPE = "\x1b"


def without_times(text: str) -> list[str]:
    """Return the lines of a log without the times at their beginning."""
    return [re.sub(r"^ *\d+\.\d s  ", "", line) for line in text.splitlines()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person sees on a terminal of 100 columns, escape codes included."""
    screen = io.StringIO()

    def on_screen() -> Console:
        return Console(
            file=screen,
            force_terminal=True,
            width=100,
            highlight=False,
            emoji=False,
            soft_wrap=True,
        )

    monkeypatch.setattr(console, "_stderr", on_screen)
    return screen


def tell(commentary: Commentary) -> None:
    """Tell of one build: a download, a conversion, and a check that fails."""
    with commentary:
        commentary.started("R50x1", "fetch", "not built yet")
        for done in range(0, 101, 5):
            commentary.progress("R50x1", "fetch", done * 10**6, 100 * 10**6)
        commentary.warn("R50x1 was not in models.lock.yaml")
        commentary.finished("R50x1", "fetch", 12.34, "100.0 MB")
        commentary.started("a/b/1", "convert", "numpy changed from 1 to 2")
        commentary.finished("a/b/1", "convert", 1.0, "98.0 MB")
        commentary.started("a/b/1", "validate", "archive changed")
        commentary.failed("a/b/1", "validate", "a/b/1: too far off")


def test_a_log_has_plain_lines_with_sizes_times_and_reasons(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(Commentary())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ESCAPE not in shown.err
    assert without_times(shown.err) == [
        "fetch    R50x1: starts (not built yet)",
        "fetch    R50x1: 25 of 100 MB",
        "fetch    R50x1: 50 of 100 MB",
        "fetch    R50x1: 75 of 100 MB",
        "fetch    R50x1: 100 of 100 MB",
        "warning: R50x1 was not in models.lock.yaml",
        "fetch    R50x1: done in 12.3 s, 100.0 MB",
        "convert  a/b/1: starts (numpy changed from 1 to 2)",
        "convert  a/b/1: done in 1.0 s, 98.0 MB",
        "validate a/b/1: starts (archive changed)",
        "validate a/b/1: failed",
    ]


def test_quiet_leaves_only_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Commentary(quiet=True))
    assert capsys.readouterr().err == "warning: R50x1 was not in models.lock.yaml\n"


def test_quiet_on_a_terminal_shows_no_bars(terminal: io.StringIO) -> None:
    tell(Commentary(quiet=True))
    assert "R50x1 was not in models.lock.yaml" in terminal.getvalue()
    assert "convert" not in terminal.getvalue()


def test_a_log_does_not_tell_of_a_transfer_of_unknown_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commentary = Commentary()
    commentary.progress("R50x1", "fetch", 10, None)
    commentary.progress("R50x1", "fetch", 0, 0)
    assert capsys.readouterr().err == ""


def test_a_second_transfer_of_the_same_file_is_told_of_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commentary = Commentary()
    for _ in range(2):
        commentary.progress("R50x1", "fetch", 10**6, 10**6)
        commentary.finished("R50x1", "fetch", 1.0, "1.0 MB")
    assert capsys.readouterr().err.count("1 of 1 MB") == 2


def test_a_terminal_shows_bars_while_stages_run_and_a_line_when_they_are_done(
    terminal: io.StringIO,
) -> None:
    commentary = Commentary()
    tell(commentary)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert ESCAPE in terminal.getvalue()
    assert "convert  a/b/1: done in 1.0 s, 98.0 MB (numpy changed from 1 to 2)" in plain
    assert "validate a/b/1: failed" in plain
    assert commentary._bars is not None
    assert commentary._bars.tasks == []  # whatever has ended is taken off


def test_a_terminal_shows_how_far_a_transfer_is_and_only_that(terminal: io.StringIO) -> None:
    commentary = Commentary()
    with commentary:
        commentary.started("R50x1", "fetch", "not built yet")
        commentary.progress("R50x1", "fetch", 51 * 10**6, 102 * 10**6)
        commentary.progress("unheard of", "fetch", 1, 2)
        commentary.started("a/b/1", "convert", "not built yet")
        assert commentary._bars is not None
        commentary._bars.refresh()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "51.0/102.0 MB" in plain
    (line,) = {line.strip() for line in re.split(r"[\r\n]+", plain) if "convert" in line} - {""}
    assert "bytes" not in line
    assert "unheard of" not in plain


def test_every_event_is_kept_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    commentary = Commentary(quiet=True)
    tell(commentary)
    assert [event["event"] for event in commentary.events] == [
        *("started", "warning", "finished"),
        *("started", "finished"),
        *("started", "failed"),
    ]
    assert all(event["at"] >= 0 for event in commentary.events)
    failed = commentary.events[-1]
    assert (failed["subject"], failed["stage"]) == ("a/b/1", "validate")
    assert failed["message"] == "a/b/1: too far off"
    assert commentary.events[3]["reason"] == "numpy changed from 1 to 2"
    assert json.dumps(commentary.events)


TRICKY = ["[red]x[/red]", "models.yaml:100:5: wrong", "C:\\", ":cat:", "ä\u2009ö"]


@pytest.mark.parametrize("text", TRICKY)
def test_texts_are_shown_as_they_are(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error(text)
    console.print_line(text)
    console.print_table(["WHAT"], [[text]])
    commentary = Commentary()
    commentary.warn(text)
    commentary.finished("a", "fetch", 1.0, text)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert lines[:2] == [f"error: {text}", f"warning: {text}"]
    assert lines[2].endswith(f"done in 1.0 s, {text}")
    assert [line.rstrip() for line in shown.out.splitlines()] == [text, "WHAT", text]


def test_a_table_in_a_file_has_one_line_a_row_however_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.print_table(["HANDLE", "SIZE>"], [["a" * 300, "1.0"], ["b", "20.0"]])
    out = capsys.readouterr().out
    assert ESCAPE not in out
    assert [line.split() for line in out.splitlines()] == [
        ["HANDLE", "SIZE"],
        ["a" * 300, "1.0"],
        ["b", "20.0"],
    ]
    assert out.splitlines()[2].rstrip().endswith("20.0")
    assert len(out.splitlines()[1].rstrip()) == len(out.splitlines()[2].rstrip())


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error("word " * 100)
    console.print_line("word " * 100)
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == len(shown.out.splitlines()) == 1


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": [1, 2], "ö": "ß"})
    assert json.loads(capsys.readouterr().out) == {"a": [1, 2], "ö": "ß"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (41.27, "41.3 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (372.4, "6 min 12 s"),
    ],
)
def test_durations_are_for_people(seconds: float, shown: str) -> None:
    assert console.duration(seconds) == shown


def test_memory_is_in_bytes() -> None:
    assert 10**7 < console.peak_memory() < console.machine_memory()
    pages = Path("/proc/meminfo")
    if pages.exists():
        kilobytes = int(pages.read_text().split()[1])
        assert console.machine_memory() == pytest.approx(1024 * kilobytes, rel=0.05)
    assert os.sysconf("SC_PAGE_SIZE") > 0


HOSTILE = "a\x1b[1A\x9b2K\r\u202eb\nproved  all"
ESCAPED = r"a\x1b[1A\x9b2K\r\u202eb\nproved  all"


def test_nothing_from_outside_moves_the_cursor_or_forges_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commentary = Commentary()
    with commentary:
        commentary.started(HOSTILE, "fetch", HOSTILE)
        commentary.finished(HOSTILE, "fetch", 1, HOSTILE)
        commentary.failed(HOSTILE, "fetch", HOSTILE)
        commentary.warn(HOSTILE)
    console.print_error(HOSTILE)
    console.print_warning(HOSTILE)
    console.print_line(HOSTILE, HOSTILE)
    console.print_table([HOSTILE], [[HOSTILE]])
    shown = capsys.readouterr()
    assert shown.out.split("\n") == [ESCAPED] * 4 + [""]
    assert len(shown.err.splitlines()) == 6
    assert all(ESCAPED in line for line in shown.err.splitlines())


def test_json_holds_every_character_and_shows_none_that_is_unprintable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.print_json({"é": HOSTILE + "\U000e0001"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"é": HOSTILE + "\U000e0001"}
    assert all(line.isprintable() for line in shown.splitlines())
    assert "é" in shown


def test_bars_show_no_escape_sequence_of_a_subject(terminal: io.StringIO) -> None:
    commentary = Commentary()
    with commentary:
        commentary.started(HOSTILE + "[red]", "fetch", "")
    assert r"a\x1b[1A\x9b2K" in terminal.getvalue()
    assert "[red]" in terminal.getvalue()
