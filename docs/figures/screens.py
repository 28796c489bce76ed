"""Take the pictures of the report and of the review page, of the demonstration campaign.

After `make demo`, with Playwright and a Chromium: `python docs/figures/screens.py demo`. The last
one needs an edited COR; the edit is taken back.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
TOMOPIPE = [sys.executable, "-u", "-m", "tomopipe"]
SCAN, ODD = "foam_003", "rock_003"
SWEEP = (
    *("full_recon.filter", "ramp", "hann", "preprocess.stripes.method", "none", "sorting", "gated"),
    *("--scan", "rock_002"),
)


def shoot(page, name, **options):
    """Write a screenshot in few colours, which are enough."""
    path = HERE / name
    page.screenshot(path=path, **options)
    picture = Image.open(path).convert("RGB")
    picture.quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


def review(browser, link):
    """Take the review page with one scan open, with candidates, and with the next run."""
    page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    page.goto(link)
    page.locator("#rows .row").filter(has=page.get_by_text(SCAN, exact=True)).click()
    page.wait_for_selector("#stage[data-exact=yes]")
    page.wait_for_selector(".crop[aria-pressed=true] canvas")
    page.get_by_text("Next run: Nothing to do.").wait_for(timeout=120_000)
    shoot(page, "review.png")
    page.locator("#rows .row").filter(has=page.get_by_text(ODD, exact=True)).click()
    page.wait_for_selector("#candidates")
    page.wait_for_selector("#stage[data-exact=yes]")
    page.set_viewport_size({"width": 1366, "height": 768})
    page.wait_for_timeout(1000)  # until it is drawn anew
    shoot(page, "review-candidates.png")
    page.set_viewport_size({"width": 1280, "height": 720})
    page.get_by_role("button", name="Sweeps").click()
    page.wait_for_selector("#sweep-picture[data-shown]")
    page.wait_for_timeout(1000)
    shoot(page, "review-sweeps.png")
    page.get_by_role("button", name="Scans").click()
    page.set_viewport_size({"width": 1366, "height": 768})
    page.locator("#cor").fill("89.45")
    page.wait_for_selector("#stage[data-cor='89.45'][data-exact=yes]")
    page.get_by_role("button", name="Accept").click()
    page.locator("#toast", has_text="in the table").wait_for()
    page.wait_for_timeout(6000)  # until the next scan is open, and the message has gone
    page.set_viewport_size({"width": 1280, "height": 400})
    page.get_by_role("button", name="Next run").click()
    page.locator("#plan-body", has_text="full_recon").wait_for(timeout=120_000)
    shoot(page, "review-run.png", clip={"x": 0, "y": 0, "width": 1280, "height": 320})
    page.keyboard.press("u")
    page.locator("#toast", has_text="as before").wait_for()


def main():
    """Write the pictures beside this file."""
    demo = Path(sys.argv[1]).absolute()
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-headless-shell")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 2160}, color_scheme="light")
        page.goto(f"file://{demo}/results/report/index.html")
        shoot(page, "report.png")
        subprocess.run([*TOMOPIPE, "sweep", *SWEEP, "-C", str(demo)], check=True)
        command = [*TOMOPIPE, "review", str(demo)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                review(
                    browser, next(line.split()[-1] for line in server.stdout if "token=" in line)
                )
            finally:
                server.terminate()
        browser.close()


if __name__ == "__main__":
    main()
