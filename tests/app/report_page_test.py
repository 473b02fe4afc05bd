#!/usr/bin/env python3
"""The page of `--report job.html`, looked at in a real browser: a job of the built program on the demo model makes it.

usage: report_page_test.py PROGRAM [--screenshot FILE.png]
Exits 77 (skipped) where there is no Chromium or Chrome. --screenshot writes the picture that the documentation shows.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import browser

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEMO_MODEL = ROOT / "configs" / "demo-model"
DEMO_ROWS = ROOT / "configs" / "demo-rows" / "rows.jsonl"
SKIPPED = 77
SCREENSHOT_HEIGHT = 1800  # from the top to the memory of the tiers
MOST_SCREENSHOT_BYTES = 300 * 1024


def make_page(folder, num_rows, ranks=1):
    """A job of the demo's rows, some of them bad; returns the page."""
    rows, page = folder / "rows.jsonl", folder / "job.html"
    with open(DEMO_ROWS, encoding="utf-8") as source, open(rows, "w", encoding="utf-8") as to:
        for i, line in zip(range(num_rows), source):
            to.write(json.dumps(dict(json.loads(line), max_tokens=4 + i * i % 29, ignore_eos=True, stop=[])) + "\n")
        to.write('{"custom_id": "no prompt"}\n{"prompt": 3}\nnot JSON\n')
    launcher = [] if ranks == 1 else [str(ROOT / "launch" / "mpirun.sh"), "-n", str(ranks)]
    words = [PROGRAM, "generate", "--model", str(DEMO_MODEL), "--input", str(rows),
             "--output", str(folder / "out.jsonl"), "--overwrite", "--percent", "20", "30", "20", "30", "20", "30",
             "--gpu-batch-size", "8", "--num-gpu-batches", "2", "--gpu-mem", "64MiB", "--cpu-mem", "256MiB",
             "--disk-mem", "64MiB", "--report", str(page), "--report", str(folder / "job.json"), "--quiet"]
    job = subprocess.run(launcher + words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                         env=dict(os.environ, OMP_NUM_THREADS="1"), check=False)
    if job.returncode != 1:  # some rows failed
        raise AssertionError(f"the job ended with {job.returncode}: {job.stderr.decode()}")
    return page


class ReportPage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="flexgen-page-")
        cls.folder = pathlib.Path(cls.scratch.name)
        cls.page = make_page(cls.folder, 200, ranks=2)
        cls.report = json.loads((cls.folder / "job.json").read_text(encoding="utf-8"))
        cls.browser = browser.Browser(browser.find())

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.scratch.cleanup()

    def load(self, width=1280, **how):
        self.browser.load(self.page.as_uri(), width, **how)

    def test_says_what_the_report_says(self):
        self.load()
        text = self.browser.value("document.body.innerText")
        job = self.report["job"]
        for part in ("generate with demo-model", f"{job['rows']:,}", f"{job['rows'] - 3} ok, 3 failed",
                     f"{job['generated_tokens']:,}", "invalid_json", "Rank 0: host CPU", "Rank 1: host CPU",
                     "disk read", self.report["policy"]["flags"]):
            self.assertIn(part, text)
        lengths = self.report["row_lengths"]["generated"]
        self.assertIn(f"{lengths['least']} to {lengths['most']}, mean {lengths['mean']:.1f}", text)
        self.assertEqual(self.browser.value("document.title"), "generate with demo-model: report")

    def test_loads_nothing_and_complains_of_nothing(self):
        self.load()
        self.assertEqual(self.browser.requests(), [self.page.as_uri()])
        self.assertEqual(self.browser.complaints(), [])
        self.assertEqual(self.browser.value("document.scripts.length"), 0)

    def test_a_script_in_it_would_not_run(self):
        """The page's own rule forbids it; and the browser does tell of what goes wrong."""
        planted = self.folder / "planted.html"
        text = self.page.read_text(encoding="utf-8")
        script = "<script>document.title='broken out'</script>"
        planted.write_text(text.replace("<main>", "<main>" + script), encoding="utf-8")
        self.browser.load(planted.as_uri(), 1280)
        self.assertNotEqual(self.browser.value("document.title"), "broken out")
        self.assertNotEqual(self.browser.complaints(), [])

    def test_fits_narrow_and_wide_windows(self):
        for width in (400, 1280):
            self.load(width)
            self.assertEqual(self.browser.value("document.documentElement.scrollWidth"), width)
            # What is wider than the window scrolls in itself.
            outside = self.browser.value(
                "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll table') && "
                "!e.closest('svg > *') && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)")
            self.assertEqual(outside, [], width)

    def test_plots_have_size_and_words(self):
        self.load()
        plots = self.browser.value(
            "[...document.querySelectorAll('svg')].map(s => ({w: s.getBoundingClientRect().width, "
            "h: s.getBoundingClientRect().height, title: s.querySelector('title')?.textContent, "
            "desc: s.querySelector('desc')?.textContent, shapes: s.querySelectorAll('path[d],rect').length}))")
        self.assertGreater(len(plots), 10)
        for plot in plots:
            self.assertGreater(plot["w"], 200, plot)
            self.assertGreater(plot["h"], 10, plot)
            self.assertGreater(plot["shapes"], 0, plot)
            self.assertTrue(plot["title"] and plot["desc"], plot)
        areas = self.browser.value("[...document.querySelectorAll('.strip path')].map(p => p.getBBox().height)")
        self.assertTrue(any(height > 5 for height in areas), "something was busy")

    def contrast(self, selector, background):
        """Of the text of an element against that of another's background, as WCAG 2 has it."""
        colours = self.browser.value(
            f"[getComputedStyle(document.querySelector('{selector}')).color, "
            f"getComputedStyle(document.querySelector('{background}')).backgroundColor]")

        def luminance(colour):
            parts = [int(part) / 255 for part in colour[colour.index("(") + 1:-1].split(",")[:3]]
            linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        light, dark = sorted(map(luminance, colours), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    def test_is_readable_in_light_and_dark(self):
        backgrounds = {}
        for scheme in ("light", "dark"):
            self.load(scheme=scheme)
            backgrounds[scheme] = self.browser.value("getComputedStyle(document.body).backgroundColor")
            for selector, background in (("h1", "body"), (".dim", "body"), ("figcaption", "body"), ("th", "body"),
                                         (".tiles dt", ".tiles div"), (".tiles dd", ".tiles div")):
                self.assertGreaterEqual(self.contrast(selector, background), 4.5, (scheme, selector))
        self.assertEqual(backgrounds["light"], "rgb(255, 255, 255)")
        self.assertNotEqual(backgrounds["dark"], backgrounds["light"])

    def test_is_black_on_white_on_paper(self):
        self.load(scheme="dark", media="print")
        self.assertEqual(self.browser.value("getComputedStyle(document.body).backgroundColor"), "rgb(255, 255, 255)")
        self.assertEqual(self.browser.value("getComputedStyle(document.body).color"), "rgb(0, 0, 0)")

    def test_is_read_aloud_in_order(self):
        self.load()
        heads = self.browser.value("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
        self.assertEqual(heads[0], 1)
        self.assertEqual(heads.count(1), 1)
        self.assertTrue(all(later <= earlier + 1 for earlier, later in zip(heads, heads[1:])), heads)
        self.assertEqual(self.browser.value("document.documentElement.lang"), "en")
        self.assertEqual(self.browser.value("document.querySelectorAll('[role=region]:not([aria-label])').length"), 0)


def write_screenshot(file):
    """Of a job that is long enough for its plots to show something."""
    with tempfile.TemporaryDirectory(prefix="flexgen-page-") as scratch:
        page = make_page(pathlib.Path(scratch), 600, ranks=2)
        tab = browser.Browser(browser.find())
        try:
            tab.load(page.as_uri(), 1100)
            picture = tab.screenshot(SCREENSHOT_HEIGHT)
        finally:
            tab.close()
    if len(picture) > MOST_SCREENSHOT_BYTES:
        sys.exit(f"{len(picture)} bytes are more than a documentation should hold")
    pathlib.Path(file).write_bytes(picture)
    print(f"{file}: {len(picture)} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    if browser.find() is None:
        print("skipped: there is no chromium, google-chrome or chrome here")
        sys.exit(SKIPPED)
    if sys.argv[1:2] == ["--screenshot"]:
        write_screenshot(sys.argv[2])
    else:
        unittest.main(verbosity=1)
