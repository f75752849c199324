"""The page in a real browser: silent, fetching nothing, read out by pointing, on a telephone, in the dark, on paper."""

import io

import pytest
from PIL import Image

from cluster.report.page import write_report

from .browser import NAMES, Browser, find
from .by_hand import EVERY, STEPS, row

pytestmark = pytest.mark.slow

FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def browser(full):
    program = find()
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} in PATH")
    path = write_report(full)
    with Browser(program) as opened:
        opened.window(1280, 800)
        opened.open(path.as_uri())
        opened.run("document.documentElement.style.scrollBehavior = 'auto'")
        yield opened


@pytest.fixture(autouse=True)
def laptop(browser):
    browser.window(1280, 800)
    browser.prefer("light")


def test_it_loads_in_silence_and_asks_for_nothing(browser):
    assert browser.faults == []
    assert [url for url in browser.requests if not url.startswith("data:")] == browser.requests[:1]
    assert browser.requests[0].startswith("file://")


def test_every_section_shows_and_is_in_the_list_of_sections(browser):
    heights = browser.run("[...document.querySelectorAll('main > section')].map(s => s.offsetHeight)")
    assert len(heights) == 10
    assert min(heights) > 60
    titles = browser.run("[...document.querySelectorAll('nav a')].map(a => a.textContent)")
    assert titles == browser.run("[...document.querySelectorAll('section h2')].map(h => h.textContent)")
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert browser.run(broken) == 0


def test_pointing_at_a_chart_reads_the_exact_value(browser):
    browser.run("panel = document.querySelector('#losses .panel')")
    assert browser.run("panel.querySelector('h4').textContent").startswith("reconstruction")
    before = browser.run("panel.querySelector('output').textContent")
    browser.run("panel.scrollIntoView({block: 'center'})")
    browser.run("place_ = panel.querySelector('svg').getBoundingClientRect()")
    browser.point(*browser.run("[place_.x + place_.width / 3, place_.y + 40]"))
    browser.run(FRAMES)
    step = int(browser.run("panel.querySelector('.at').textContent").removeprefix("step ").replace(",", ""))
    shown = float(browser.run("panel.querySelector('output').textContent"))
    assert STEPS * EVERY * 0.2 < step < STEPS * EVERY * 0.35
    assert shown == pytest.approx(row(step)["reconstruction"], rel=1e-6)
    cursors = browser.run("document.querySelectorAll('.cursor').length")
    assert cursors == browser.run("document.querySelectorAll('.panel').length"), (
        "all charts show the same place"
    )
    browser.point(2, 2)
    browser.run(FRAMES)
    assert browser.run("panel.querySelector('output').textContent") == before


def test_arrows_read_values_too(browser):
    browser.run("document.querySelector('#schedules .panel').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")
    browser.run(FRAMES)
    assert browser.run("document.querySelector('#schedules .at').textContent") == f"step {STEPS * EVERY:,}"
    browser.run("document.activeElement.blur()")


def test_the_slider_turns_the_previews(browser):
    browser.run("figures_ = [...document.querySelectorAll('.frames figure')]")
    shown = "figures_.filter(f => f.offsetHeight).map(f => f.textContent.trim())"
    assert browser.run(shown) == ["after step 25,000"]
    browser.run("slider.value = 0; slider.dispatchEvent(new Event('input'))")
    assert browser.run(shown) == ["after step 1,000"]
    assert browser.run("document.querySelector('.slider output').textContent") == "step 1,000"
    browser.run("document.querySelectorAll('.thumbs button')[11].click()")
    assert browser.run(shown) == ["after step 25,000"]


@pytest.mark.parametrize("width", [400, 768, 1280])
def test_nothing_sticks_out(browser, width):
    browser.window(width, 800)
    assert browser.run("document.documentElement.scrollWidth") == width
    browser.run(
        "boxes_ = [...document.querySelectorAll('.panel, .panel *, .tiles *, .config *, .previews *')]"
    )
    assert browser.run("boxes_.filter(box => box.getBoundingClientRect().right > innerWidth + 1).length") == 0


def test_a_dark_reader_gets_a_dark_page_with_legible_text(browser):
    contrasts = {scheme: _contrast(browser, scheme) for scheme in ("light", "dark")}
    assert all(text > 10 and muted > 4.5 for text, muted in contrasts.values()), contrasts
    browser.prefer("dark")
    browser.run(FRAMES)
    assert Image.open(io.BytesIO(browser.picture())).convert("L").getpixel((5, 5)) < 40


def test_print_shows_every_preview(browser):
    browser.call("Emulation.setEmulatedMedia", media="print")
    shown = browser.run("[...document.querySelectorAll('.frames figure')].filter(f => f.offsetHeight).length")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert shown == 12
    assert browser.pdf().startswith(b"%PDF")


def _contrast(browser, scheme):
    """Ratios, as WCAG counts, of text and of muted text to the card behind them."""
    browser.prefer(scheme)
    names = ("--text", "--muted", "--card")
    colours = [
        browser.run(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
        for name in names
    ]
    text, muted, card = map(_luminance, colours)
    return tuple((max(a, card) + 0.05) / (min(a, card) + 0.05) for a in (text, muted))


def _luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
