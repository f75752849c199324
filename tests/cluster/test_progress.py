"""What people see of a run: on a terminal, played back as the terminal would show it, and in a log file."""

import io
import logging
import re
import time

import pytest
from rich.console import Console

from cluster.notes import Note
from cluster.progress import Clock, ProgressLine, summarize
from cluster.row_parts import SHARES


def row(step, **changes):
    worker = {"images_per_second": 203.0, "data_wait": 0.02, "memory_mib": 1536.0}
    figures = {
        "step": step,
        "epoch": step / 500,
        "images_per_second": 406.0,
        "data_wait": 0.03,
        "skipped": 0,
        "seconds": 1000.0 + step,
        "workers": [worker, worker],
        SHARES: [[0.4, 0.1, 0.3, 0.2], [0.25] * 4],
        "lr/translator": 1e-4,
        "discriminator": 1.25,
        "adversarial": 0.84,
        "content_adversarial": float("nan"),
        "reconstruction": 0.212,
        "cycle": 0.333,
        "temperature": 0.86,
    }
    return figures | changes


class Screen:
    """The lines that a terminal shows after all that was written to it: text, newlines, cursor up, erase line."""

    def __init__(self, written):
        self.lines, self.at = [""], 0
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
            if token == "\n":
                self.at += 1
                self.lines += [""] * (self.at == len(self.lines))
            elif re.fullmatch(r"\x1b\[\d*A", token):
                self.at -= int(token[2:-1] or 1)
            elif token == "\x1b[2K":
                self.lines[self.at] = ""
            elif not token.startswith("\x1b") and token != "\r":
                self.lines[self.at] += token
        self.lines = [line.rstrip() for line in self.lines]


@pytest.fixture(params=[60, 80, 140])
def width(request):
    return request.param


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return lambda width=80: Console(file=io.StringIO(), force_terminal=True, width=width, height=40)


@pytest.fixture
def log():
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def shown(console):
    return Screen(console.file.getvalue()).lines


def test_the_panel_holds_all_figures_within_the_width(terminal, width):
    console = terminal(width)
    with ProgressLine("a-run-with-quite-a-long-name", 5000, console) as line:
        line.row(row(1000))
        line.row(row(1250))
    lines = shown(console)
    text = "\n".join(lines)
    assert all(len(each) <= width for each in lines), text
    assert len(lines) <= 9, text
    assert "1250/5000" in lines[0]
    assert "25%" in lines[0]
    assert "406 images/s (203 | 203)" in text
    for figure in (
        "data wait 3%",
        "memory 1.5 GiB",
        "epoch 2.50",
        "reconstruction 0.212",
        "temperature 0.86",
    ):
        assert figure in text
    assert "content_adversarial nan" in text
    assert "0 █▂▆▄ 10% to 40%" in text
    assert "1 ████ 25% to 25%" in text


def test_notes_stand_above_one_panel(terminal):
    console = terminal()
    with ProgressLine("digits", 5000, console) as line:
        line.say("Starting Ray.")
        time.sleep(0.6)  # longer than between two refreshes
        line.row(row(50))
        line.note(Note(logging.WARNING, "worker 1 died"))
        time.sleep(0.6)
        line.row(row(100))
        line.say("Finished.")
    lines = shown(console)
    assert lines[:3] == ["Starting Ray.", "worker 1 died", "Finished."]
    assert sum("digits" in each for each in lines) == 1
    assert "100/5000" in lines[3]
    assert "no step yet" not in "\n".join(lines)


def test_rows_do_not_redraw_faster_than_the_eye(terminal):
    console = terminal()
    with ProgressLine("digits", 5000, console) as line:
        for step in range(1, 1001):
            line.row(row(step))
    assert console.file.getvalue().count("images/s") <= 4


def test_a_run_that_never_stepped_leaves_no_panel(terminal):
    console = terminal()
    with ProgressLine("digits", 5000, console) as line:
        line.say("Run digits is finished")
    assert "".join(shown(console)) == "Run digits is finished"


def test_held_out_figures_stay_until_measured_again(terminal):
    console = terminal()
    with ProgressLine("digits", 5000, console) as line:
        line.row(row(50, **{"held_out/reconstruction": 0.123}))
        line.row(row(100))
    assert any("held out" in each and "reconstruction 0.123" in each for each in shown(console))


def test_a_model_without_components_and_a_row_of_no_workers_have_a_panel(terminal):
    figures = row(50, skipped=3, data_wait=0.4)
    del figures[SHARES], figures["workers"]
    console = terminal()
    with ProgressLine("digits", 5000, console) as line:
        line.row(figures)
    text = "\n".join(shown(console))
    assert "3 steps skipped" in text
    assert "data wait 40%" in text
    assert "components" not in text
    assert "memory" not in text


def test_many_workers_are_their_slowest_and_their_fastest(terminal):
    workers = [{"images_per_second": 100.0 + n, "data_wait": 0.0, "memory_mib": 1.0} for n in range(32)]
    console = terminal()
    with ProgressLine("digits", 5000, console) as line:
        line.row(row(50, workers=workers))
    assert "(100 to 131 a worker)" in "\n".join(shown(console))


def test_a_log_file_gets_one_short_line_now_and_then(log):
    with ProgressLine("digits", 500, log) as line:
        for step in range(1, 501):
            line.row(row(step))
    first, last = log.file.getvalue().splitlines()
    assert first.startswith("step 1/500 · 406 images/s · discriminator 1.25 · adversarial 0.84")
    assert last.startswith("step 500/500 · ")
    assert "left" not in last
    assert "\x1b" not in first + last
    assert len(first) < 150


def test_a_dumb_terminal_is_written_to_as_a_log_file(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with ProgressLine("digits", 500, console) as line:
        line.row(row(1))
        line.row(row(2))
    assert len(console.file.getvalue().splitlines()) == 1


def test_the_clock_goes_by_the_latest_speed_and_starts_anew_after_a_restart(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "time", lambda: now)
    clock = Clock(1000)
    clock.row({"step": 100, "seconds": 0.0})
    assert clock.seconds_left() is None
    now = 50.0
    clock.row({"step": 200, "seconds": 50.0})
    assert clock.seconds_left() == pytest.approx(800 * 0.5)
    now = 60.0
    assert clock.seconds_left() == pytest.approx(800 * 0.5 - 10), "it runs down between rows"
    clock.row({"step": 150, "seconds": 60.0})  # a worker died; back to the checkpoint
    assert clock.seconds_left() is None
    now = 70.0
    clock.row({"step": 160, "seconds": 70.0})
    assert clock.seconds_left() == pytest.approx(840)
    for step in range(161, 300):  # ten times as fast
        now += 0.1
        clock.row({"step": step, "seconds": now})
    assert clock.seconds_left() == pytest.approx(701 * 0.1, rel=0.01)
    clock.row({"step": 1000, "seconds": now + 70})
    assert clock.seconds_left() is None


def test_a_line_tells_of_a_loader_that_keeps_the_steps_waiting():
    assert "data wait" not in summarize(row(1))
    assert "data wait 40%" in summarize(row(1, data_wait=0.4))
