"""The documentation site, built and opened: no warning, no broken link, masks with the bits of Python."""

import functools
import hashlib
import http.server
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from known_answers import CROSSING, DIGESTS, FOLDS, HALFWORDS, PHILOX, TIES

import thinned

pytestmark = (
    pytest.mark.full
)  # a build takes ten seconds and needs the extra `docs`; test_site.py holds the rest
ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "docs" / "_site" / "assets"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

ANSWERS = """
import { fold, halfword, keepMask, kept, philox, scale, threshold } from "%s";
const [philoxes, masks, ties, folds] = JSON.parse(process.argv[1]);
const crossing = Array.from({ length: 64 }, (_, i) => i);
const big = ([seed, stream]) => [BigInt(seed), BigInt(stream)];
console.log(JSON.stringify({
  philox: philoxes.map(([counter, key]) => philox(counter, key)),
  halfwords: [0, 1].map((purpose) => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((i) => halfword(i, purpose, 0, 0))),
  masks: masks.map(([shape, p, key]) => Array.from(keepMask(shape, p, ...big(key))).join("")),
  crossing: crossing.map((i) => +kept(2 ** 35 - 5 + i, 0.25, 9, 9)).join(""),
  ties: ties.map((i) => +kept(i, 0.1, 5, 5)),
  folds: folds.map(([seed, data]) => fold(data, seed).map(String)),
  thresholds: [0, 0.1, 0.3, 0.5, 1].map(threshold), scale: scale(0.1),
}));
"""


@pytest.mark.skipif(NODE is None, reason="no node on this machine")
def test_the_contract_in_javascript_has_the_known_answers():
    folds = [(key.seed, data) for key, data, _ in FOLDS if isinstance(data, int)]
    masks = [(shape, p, (str(key.seed), str(key.stream))) for shape, p, key, *_ in DIGESTS]
    asked = json.dumps([[case[:2] for case in PHILOX], masks, list(TIES), folds])
    script = ANSWERS % (SCRIPTS / "contract.js").as_uri()
    done = subprocess.run(
        [NODE, "--input-type=module", "-e", script, "--", asked], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["philox"] == [list(out) for *_, out in PHILOX]
    for purpose, words in HALFWORDS.items():
        assert [f"{word:04x}" for word in told["halfwords"][purpose]] == words.split()
    for mask, (*_, kept, digest) in zip(told["masks"], DIGESTS, strict=True):
        assert mask.count("1") == kept
        assert hashlib.sha256(bytes(int(one) for one in mask)).hexdigest() == digest
    assert told["crossing"] == CROSSING
    assert told["ties"] == list(TIES.values())
    streams = [stream for _, data, stream in FOLDS if isinstance(data, int)]
    assert [int(low) + (int(high) << 32) for low, high in told["folds"]] == streams
    assert told["thresholds"] == [thinned.threshold(p) for p in (0, 0.1, 0.3, 0.5, 1)]
    assert told["scale"] == thinned.scale(0.1)


@pytest.fixture(scope="module")
def site():
    """The folder of the built site."""
    missing = [
        name
        for name in ("zensical", "latex2mathml", "mkdocstrings")
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        pytest.skip(f'not installed: {", ".join(missing)}; pip install ".[docs]"')
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "_site" / "build.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    return ROOT / "build" / "docs" / "site"


def test_links_and_anchors_lead_somewhere_and_the_search_has_its_words(site):
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "_site" / "check.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def browser(site):
    """A page of a headless Chromium, and the address of the site."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=site)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with playwright.sync_playwright() as run:
        chromium = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
        yield context.new_page(), f"http://127.0.0.1:{server.server_port}"
        chromium.close()
    server.shutdown()
    server.server_close()


def test_the_page_draws_the_masks_of_python(browser):
    page, address = browser
    page.goto(f"{address}/mask/")
    shared = {"none": (9, 31), "rows": (9, 1), "columns": (1, 31)}
    for sharing, noise in shared.items():
        for p, seed, mode in ((0.3, 0, "inverted"), (0.75, 2**53 - 1, "classic"), (1.0, 5, "inverted")):
            fields = {"p": p, "rows": 9, "columns": 31, "seed": seed}
            for name, value in fields.items():
                page.eval_on_selector(
                    f"[name={name}]", "(field, value) => { field.value = value }", str(value)
                )
            page.select_option("[name=mode]", mode)
            page.select_option("[name=noise_shape]", sharing)
            mask = thinned.keep_mask(noise, p, key=thinned.Key(seed))
            digest = hashlib.sha256(mask.tobytes()).hexdigest()
            page.wait_for_function(
                "digest => document.querySelector('[data-show=digest]').textContent === digest",
                arg=digest,
                timeout=5000,
            )
            noise_shape = tuple(None if size > 1 else 1 for size in noise)
            key = thinned.Key(seed)
            y = thinned.dropout(
                np.ones((9, 31)), p, key=key, training=True, mode=mode, noise_shape=noise_shape
            )
            assert page.inner_text("[data-show=after-mean]") == f"{y.mean():.4f}"
            assert page.inner_text("[data-show=after-variance]") == f"{y.var():.4f}"


def test_the_copy_button_leaves_prompts_and_output_out(browser):
    page, address = browser
    page.goto(f"{address}/quickstart/")
    block = page.locator(".highlight", has_text="import numpy as np, thinned").first
    block.hover()
    block.locator("button").first.click()
    page.wait_for_function("navigator.clipboard.readText().then(text => text.startsWith('import numpy'))")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert ">>>" not in copied
    assert "array(" not in copied
    exec(compile(copied, "copied", "exec"), {})


def test_the_search_finds_keep_prob(browser):
    page, address = browser
    for seconds in (1, 2, 4, 8):  # the index comes late where the machine is busy
        page.goto(address)
        page.wait_for_timeout(500)
        page.keyboard.press("Control+k")
        page.wait_for_timeout(500)
        page.keyboard.type("keep_prob", delay=20)
        page.wait_for_timeout(1000 * seconds)
        page.keyboard.press("Enter")  # the first result
        page.wait_for_timeout(1000 * seconds)
        if page.url.rstrip("/") != address:
            break
    assert "keep_prob" in page.url
    assert "keep_prob" in page.inner_text("article")
