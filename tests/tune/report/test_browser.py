"""The page in a real browser: silent, fetching nothing, legible in light and dark, on a telephone, sortable."""

import io

import pytest
from PIL import Image

from tune.report.page import write_report

from ...cluster.report.browser import NAMES, Browser, find

pytestmark = pytest.mark.slow

FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
DRAW_ALL = "(async () => { for (const chart of charts) if (!chart.drawn) await draw(chart); })()"


@pytest.fixture(scope="module")
def paths(one, two):
    return {"one": write_report(*one.arguments)[0], "two": write_report(*two.arguments)[0]}


@pytest.fixture(scope="module", params=["one", "two"])
def browser(request, paths):
    program = find()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} in PATH")
    with Browser(program) as opened:
        opened.window(1280, 800)
        opened.prefer("light")
        opened.open(paths[request.param].as_uri())
        opened.run("document.documentElement.style.scrollBehavior = 'auto'")
        opened.run(FRAMES)
        opened.drawn_at_once = opened.run("charts.filter(chart => chart.drawn).length")
        opened.run(DRAW_ALL)
        yield opened


@pytest.fixture(autouse=True)
def laptop(browser):
    browser.window(1280, 800)
    browser.prefer("light")


def test_it_loads_in_silence_and_asks_for_nothing(browser):
    assert browser.faults == []
    assert [url for url in browser.requests if not url.startswith("data:")] == browser.requests[:1]
    assert browser.requests[0].startswith("file://")


def test_charts_are_drawn_when_they_are_near(browser):
    assert browser.drawn_at_once < browser.run("charts.length")


def test_every_chart_has_marks_and_every_picture_loads(browser):
    marks = browser.run(
        "charts.map(c => c.querySelectorAll('.trace, .point, .contourfill, .hm, image').length)"
    )
    assert len(marks) > 8
    assert min(marks) > 0
    assert browser.run("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    titles = browser.run("[...document.querySelectorAll('nav a')].map(a => a.textContent)")
    assert titles == browser.run("[...document.querySelectorAll('section h2')].map(h => h.textContent)")


@pytest.mark.parametrize("width", [400, 768, 1280, 1920])
def test_nothing_sticks_out(browser, width):
    browser.window(width, 800)
    browser.run("new Promise(done => setTimeout(done, 300))")
    assert browser.run("document.documentElement.scrollWidth") == width
    inside = "[...document.querySelectorAll('.panel, .plot, .tiles *, .sides *')].filter(box => !box.closest('#lines'))"
    assert browser.run(f"{inside}.filter(b => b.getBoundingClientRect().right > innerWidth + 1).length") == 0
    drawn = browser.run("charts.map(c => c.querySelector('.main-svg').getBoundingClientRect().width)")
    assert drawn == pytest.approx(browser.run("charts.map(c => c.querySelector('.plot').clientWidth)"), abs=2)


def test_the_reader_may_turn_to_dark(browser):
    """Colours of charts follow, and their words stay legible: contrast 4.5 and more to the card."""
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.run("new Promise(done => setTimeout(done, 1500))")
        card = browser.run("getComputedStyle(document.querySelector('.panel')).backgroundColor")
        words = browser.run(
            "[...new Set([...document.querySelectorAll('.plot svg text')].map(t => getComputedStyle(t).fill))]"
        )
        assert words
        assert min(_contrast(word, card) for word in words) > 4.5, (scheme, words, card)
    browser.run(FRAMES)
    assert Image.open(io.BytesIO(browser.picture())).convert("L").getpixel((5, 5)) < 40


def test_headings_sort_the_trials(browser):
    column = "[...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[2].dataset.value)"
    press = "document.querySelectorAll('.sortable th button')[2].click()"
    browser.run(press)
    rising = [float(value) for value in browser.run(column) if value]
    assert rising == sorted(rising)
    browser.run(press)
    falling = [float(value) for value in browser.run(column) if value]
    assert falling == rising[::-1]
    browser.run("document.querySelectorAll('.sortable th button')[0].click()")
    numbers = browser.run(
        "[...document.querySelectorAll('.sortable tbody tr')].map(r => +r.cells[0].dataset.value)"
    )
    assert numbers == sorted(numbers)


def test_it_prints(browser):
    assert browser.pdf().startswith(b"%PDF")
    assert browser.faults == []


def _contrast(one, other):
    """As WCAG counts it, of two colours written rgb(r, g, b)."""
    a, b = map(_luminance, (one, other))
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def _luminance(colour):
    parts = [float(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
