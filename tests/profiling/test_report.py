"""The report: as text, and in a real browser."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from datapipe.profiling.advice import Advice, Applied, Fix
from datapipe.profiling.analysis import summarise
from datapipe.profiling.cpu_use import CpuUse
from datapipe.profiling.io_truth import IoTruth, Traffic
from datapipe.profiling.lock_probe import LockDelay
from datapipe.profiling.memory_use import Growth, MemorySeries, MemoryUse
from datapipe.profiling.overhead import Overhead
from datapipe.profiling.ranks import RankRow, Ranks
from datapipe.profiling.report import in_bytes, in_seconds, report_html, signed, write_report
from datapipe.profiling.summary import Summary

HOSTILE = [
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=\"document.title='owned'\">",
    "\"' onmouseover='document.title=1'",
    "{{ 7 * 7 }}",
    "</style><style>body{display:none}",
    "🧨 emoji",
    "שלום \u202eabc",
    "a" * 300,
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
         "--disable-component-update", "--no-first-run", "--disable-quic"]  # fmt: skip


@pytest.fixture
def rich_run(pipeline):
    """A run with a loader that records itself, epochs, memory and notes."""
    random = np.random.default_rng(0)
    services = np.round(random.lognormal(0, 0.4, (3, 150)) * [[1e6], [4e6], [1e6]])
    spans = pipeline(services, np.round(random.lognormal(0, 0.2, 150) * 2e6)).spans()
    end = max(row[4] for row in spans.rows)
    spans.add("epoch", 0, end / 2, item=0).add("epoch", end / 2, end, item=1).add("evaluate", end, end + 9e6)
    memory = tuple((i / 10, (100 + i) << 20) for i in range(20))
    return spans, {"ended": int(end + 20e6), "memory": memory, "title": "A run", "notes": {"batch size": 32}}


@pytest.fixture
def hostile_run(steady_run, spans):
    for i in range(40):
        t = i * 10_000_000
        spans.add("step", t, t + 10_000_000, item=i)
        for k, name in enumerate(HOSTILE):
            spans.add(name, t + k * 1_000_000, t + (k + 1) * 1_000_000)
    facts = {name: name for name in HOSTILE}
    return spans.run(title=HOSTILE[0], error=HOSTILE[1], complete=False, notes=facts, environment=facts)


@pytest.fixture
def full(rich_run):
    """A summary with every section that a report can have, its texts hostile where they come from outside."""
    spans, more = rich_run
    gib = 1 << 30
    cold = Traffic(
        network=gib, cache=gib // 2, local=gib, disk=gib, page_cache=gib // 2, device_reads=2 * gib, state="cold"
    )
    warm = dataclasses.replace(cold, network=0, disk=0, page_cache=3 * gib // 2, state="warm")
    flat = [gib] * 40
    rising = [gib + i * (20 << 20) for i in range(40)]
    series = MemorySeries(
        seconds=[float(i) for i in range(40)], resident=rising, anonymous=rising, shared=flat, workers=flat,
        pinned=[0] * 40, device=flat,
    )  # fmt: skip
    growth = Growth(kind="anonymous", per_second=2e7, p=1e-9, grown=8e8, leak=True, per_step=1e5)
    rank = {"p50": 4e6, "p95": 5e6, "stages": {}, "late": 0.0, "last": 0.5, "waiting": 0.0}
    return dataclasses.replace(
        summarise(spans.run(**more, environment={"python": "3.11"})),
        io=IoTruth(
            seen=True, total=cold, epochs=(cold, *(warm,) * 8), read_calls=gib, written=5, machine_network=gib,
            major_faults=7, pressure=0.25,
        ),
        memory_use=MemoryUse(
            series=series, peak=2 * gib, limit=3 * gib, limited_by="its control group", growth=(growth,), full_in=60.0,
            device_free=gib, pressure=0.1, warnings=(f"Memory grows: {HOSTILE[0]}",),
        ),
        lock=LockDelay(
            enabled=True, probes=500, taken=0.5, mean=2e6, p50=1e6, p95=5e6, worst=9e6, switch=5e6, contended=0.4, cpu=9
        ),
        advice=Advice(
            fixes=tuple(
                Fix(
                    title=f"{HOSTILE[i]} fix", do=f"DataLoader(…, {HOSTILE[0]})", cost="memory", effort=i,
                    gain=0.5 - i / 10, recorded_ns=4e6, step_ns=2e6 + i * 4e5, low=1e6, high=3e6,
                    extrapolated=i == 1, reason="",
                )
                for i in range(3)
            ),
            sentence="3 fixes", evidence=(f"column {HOSTILE[2]}",),
            applied=(
                Applied(
                    title=HOSTILE[1], options={}, recorded_ns=4e6, predicted_ns=2e6, low=1e6, high=3e6,
                    measured_ns=2.2e6, inside=True, error=-0.09, p=0.01,
                ),
            ),
        ),
        cpu=CpuUse(used=1.9, usable=2.0, preempted=100.0, pressure=0.5),
        overhead=Overhead(
            ns_per_span=900.0, spans=10, elsewhere=20, loop=1.0, loader=1.0, watching=5, share=0.004, per_step=9000.0,
            writing=10**8, trace=10**7, with_trace=0.02,
        ),
        ranks=Ranks(
            world_size=3, steps=90, skew=(1e6, 2e6), stragglers=(2,), waits=(), synchronous=True,
            sentence=f"Rank 2 is late {HOSTILE[1]}", evidence=("so",), rows=tuple(
                RankRow(
                    rank=i, step=4e6 + i * 1e6, parts={"wait": 1e6 + i * 1e6, HOSTILE[0]: 3e6},
                    waits={"fetch": 1e6 + i * 1e6}, own=1e6, **rank,
                )
                for i in range(3)
            ),
        ),
    )  # fmt: skip


def test_every_section_is_there_when_its_figures_are(full, rich_run):
    """One heading each, and none of an absent part."""
    spans, more = rich_run
    optional = {"h-ranks", "h-bytes", "h-cpu", "h-fixes"}
    always = {"h-step", "h-wait", "h-pipeline", "h-steps", "h-run", "h-stages", "h-memory", "h-unseen", "h-cost"}
    for summary, expected in ((full, optional | always | {"h-env"}), (summarise(spans.run(**more)), always)):
        ids = re.findall(r'<h2 id="([^"]+)"', report_html(summary))
        assert set(ids) - {"h-notes"} == expected
        assert len(ids) == len(set(ids))
    assert "Bytes by source: neither" in report_html(summarise(spans.run(**more)))
    assert "Bytes by source: neither" not in report_html(full)


def test_what_is_measured_is_said(full):
    """Figures of each part stand in the page; warnings stand in the verdict; a leak is told."""
    page = report_html(full)
    verdict = page[page.index('class="verdict') : page.index('class="facts')]
    assert "The CPUs are full: 1.9 of 2 cores" in verdict
    assert "Memory grows: &lt;script&gt;" in verdict
    assert "these epochs do not measure the storage" in verdict
    for text in ("network 40.0%", "epoch 9", "2 (late)", "Anonymous memory grew 19.1 MiB a second", "0.40% of the run",
                 "<b>−50%</b>", "To do: another pass over the data.", "“Extrapolated” is what",
                 "of the mean step", "Step, median", "-9.0%"):  # fmt: skip
        assert text in page
    assert HOSTILE[0] not in page
    assert HOSTILE[1] not in page


def test_it_is_one_file_that_asks_for_nothing(rich_run, tmp_path):
    """No address to load from, a policy that forbids it, less than 2 MB."""
    spans, more = rich_run
    page = write_report(summarise(spans.run(**more)), tmp_path).read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:,)""", page)
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page
    assert len(page.encode()) < 2_000_000
    assert " style=" not in page


def test_the_longest_run_stays_small(steady_run):
    summary = summarise(steady_run(n=50_000, noise=0.1))
    assert len(report_html(summary).encode()) < 2_000_000


def test_hostile_texts_are_escaped(hostile_run):
    page = report_html(summarise(hostile_run))
    data = re.search(r'<script type="application/json" id="steps-data">(.*?)</script>', page, re.DOTALL).group(1)
    for text in HOSTILE[:3]:
        assert text not in page.replace(data, "")
    assert "<" not in data
    assert "{{ 7 * 7 }}" in page
    assert HOSTILE[0] in json.loads(data)["names"]


def test_a_run_without_steps_has_a_report_too(spans):
    page = report_html(summarise(spans.add("fetch", 0, 10).run(complete=False, error="OSError")))
    assert "No steps were recorded" in page
    assert "OSError" in page


@pytest.mark.parametrize(
    ("part", "text"), [(0, "±0.00%"), (4, "±0.00%"), (-4, "±0.00%"), (120, "+0.12%"), (-2000, "-2.00%")]
)
def test_a_signed_share(part, text):
    assert signed(part, 100_000) == text


def test_sizes_and_durations():
    assert [in_bytes(n) for n in (0, 1023, 1536, 3 << 30, 5 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3.0 GiB",
        "5.0 TiB",
    ]
    assert [in_seconds(n * 1e9) for n in (0.5, 2, 84.2, 724, 7300)] == [
        "500 ms",
        "2.00 s",
        "84.2 s",
        "12 min 4 s",
        "2 h 1 min",
    ]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH ({', '.join(names)})")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens a run's report and returns the page; at the end, no error and no request may have been."""
    seen, pages = [], []

    def open_page(run, *, width=1200, scheme="light"):
        path = write_report(run if isinstance(run, Summary) else summarise(run), tmp_path)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: seen.append(f"console {message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("request", lambda request: seen.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert [line for line in seen if line != "data:,"] == []


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * (top[3] ?? 1) + below[i] * (1 - (top[3] ?? 1)));
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => { const l = c.map(linear);
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
  const behind = (node) => { const chain = []; for (let n = node; n; n = n.parentElement) chain.unshift(n);
    return chain.reduce((below, n) => over(parse(getComputedStyle(n).backgroundColor), below), [255, 255, 255]); };
  const out = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || node.closest("script,style,svg")) continue;
    if (!node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(behind(node))].sort((x, y) => y - x);
    out.push([(a + 0.05) / (b + 0.05), walker.currentNode.textContent.trim().slice(0, 40)]);
  }
  return out;
}"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(visit, full, scheme):
    """Contrast of at least 4.5 for all text in HTML, in both colour schemes, which do differ."""
    page = visit(full, scheme=scheme)
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 100
    assert [entry for entry in ratios if entry[0] < 4.5] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(19")
    assert dark is (scheme == "dark")


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 820, 1600])
@pytest.mark.parametrize("kind", ["full", "hostile", "empty"])
def test_no_width_scrolls_sideways(visit, full, hostile_run, new_spans, width, kind):
    run = {"full": full, "hostile": hostile_run, "empty": new_spans().add("fetch", 0, 9).run()}[kind]
    page = visit(run, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_hostile_texts_do_nothing(visit, hostile_run):
    """They are shown as text: no script runs, no element appears, nothing is hidden."""
    page = visit(hostile_run)
    page.hover("#steps-chart")
    assert page.title() == f"{HOSTILE[0]} · datapipe profile"
    assert page.locator("img").count() == 0
    assert page.locator("h1").inner_text() == HOSTILE[0]
    assert page.locator("h1").is_visible()
    assert HOSTILE[1] in page.locator("#steps-readout").inner_text()


@pytest.mark.browser
def test_columns_are_read_out_by_pointer_and_keys(visit, rich_run):
    spans, more = rich_run
    page = visit(spans.run(**more))
    readout = page.locator("#steps-readout")
    idle = readout.inner_text()
    page.focus("#steps-chart")
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("step 1:")
    page.hover("#steps-chart")
    assert " ms = " in readout.inner_text()
    assert not readout.inner_text().startswith("step 1:")
    page.mouse.move(0, 0)
    assert readout.inner_text() == idle


@pytest.mark.browser
def test_it_reads_without_its_script(browser, rich_run, tmp_path):
    spans, more = rich_run
    path = write_report(summarise(spans.run(**more)), tmp_path)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("table").count() >= 3
    assert page.locator(".verdict .sentence").is_visible()
    context.close()


@pytest.mark.browser
def test_everything_drawn_has_words(visit, full):
    """Each chart has a label or is hidden from readers with its figures in a table; headings are in order."""
    page = visit(full)
    unlabelled = "svg:not([aria-hidden]):not([role=img][aria-label]):not([aria-hidden] svg)"
    assert page.locator(unlabelled).count() == 0
    assert page.locator("[role=img]:not([aria-label])").count() == 0
    assert page.locator("h1").count() == 1
    assert page.locator("html[lang]").count() == 1
    assert page.locator("th:not([scope])").count() == 0


@pytest.mark.browser
def test_it_prints(visit, full):
    """On paper it is dark on light, whatever the screen's scheme, and nothing is cut off at the right."""
    page = visit(full, scheme="dark", width=718)  # A4 with Chromium's margins, CSS px
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 35)"
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    for box in page.locator(".scroll").all():
        assert box.evaluate("(node) => node.scrollWidth - node.clientWidth") <= 1
    assert len(page.pdf()) > 10_000
