"""Somebody who looks at the dashboard in headless Chromium: what is on the screen. Prints it as JSON.

Arguments: what to look at, the browser, the server's address, and what that look needs.
"""

import json
import os
import sys
import time
import urllib.request

from playwright.sync_api import sync_playwright

WHAT, BROWSER, SERVER = sys.argv[1:4]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# The event is a click that came twice; the campaign is the first one.
EVENT = "00000000-0000-0000-0000-000000000005"
DEEPER = ["/campaigns?campaign=campaign-0000&", f"/event?id={EVENT}&", "/funnel?segment=country&"]
PAGES = ["/", "/campaigns", "/compare", "/funnel", "/heatmap", "/geography", "/quality", "/forecast", "/event", "/system", "/docs"]
RANGE = "range=custom&from=2024-05-05T00:00:00Z&to=2024-05-06T00:00:00Z&tz=UTC"


def watched(page, troubles):
    """Notes what a console would show. An answer that says why, such as 404 of what this server has not, is no fault of the page's."""
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" and "Failed to load resource" not in message.text else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    return page


def until(page, expression, argument=None, seconds=20):
    """Asked again and again from outside: the page's own policy forbids to evaluate texts in it."""
    ends = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < ends, f"{expression} does not hold after {seconds} s"
        time.sleep(0.02)


def settled(page):
    page.wait_for_selector("main .panel, main .search, main .seal")
    until(page, "!document.querySelector('[aria-busy]') && !document.querySelector('.state-loading')")


def number(text):
    return int("".join(letter for letter in text if letter.isdigit()) or 0)


def send(event):
    request = urllib.request.Request(SERVER + "/v1/events", json.dumps(event).encode(), {"user-agent": "Mozilla/5.0 Firefox/127.0"})
    urllib.request.urlopen(request).read()


def every_page(browser, axe):
    """Each page in both themes and at three widths: does it draw, and can it be used without eyes or a mouse?"""
    done = {"troubles": [], "findings": [], "errors": [], "pages": 0, "outside": []}
    for theme, width in [("light", 1440), ("dark", 390), ("light", 820)]:
        page = watched(browser.new_page(color_scheme=theme, viewport={"width": width, "height": 900}, bypass_csp=bool(axe)), done["troubles"])
        page.on("request", lambda request: None if request.url.startswith((SERVER, "blob:")) else done["outside"].append(request.url))
        for path in [f"{path}?" for path in PAGES] + (DEEPER if width != 820 else []):
            page.goto(f"{SERVER}{path}{RANGE}")
            settled(page)
            done["pages"] += 1
            done["errors"] += [f"{path}: {text}" for text in page.locator(".state-error").all_inner_texts() if "404" not in text]
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                done["troubles"].append(f"{path} is wider than a screen of {width} pixels")
            if axe and width != 820:
                page.evaluate(axe)
                found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
                done["findings"] += [f"{path} {theme}: {one['id']}: {one['nodes'][0]['html'][:200]}: {one['nodes'][0].get('failureSummary', '')[:300]}" for one in found["violations"] if one["impact"] in ("serious", "critical")]
        if width == 390:
            done["themes"] = [page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")]
            page.get_by_role("button", name="Light", exact=True).click()
            done["themes"].append(page.evaluate("document.documentElement.dataset.theme"))
            page.reload()
            done["themes"].append(page.evaluate("document.documentElement.dataset.theme"))
        page.close()
    return done


def tables(browser):
    """What stands in the tables of all pages, by page and caption, and what is no table."""
    page = browser.new_page(locale="en-US")
    paths = {"geography": "/geography?currency=USD&", "quality": "/quality?", "campaign": "/campaigns?campaign=campaign-0000&", "compare": "/compare?by=none&", "funnel": "/funnel?segment=country&", "heatmap": "/heatmap?", "forecast": "/forecast?unit=hour&", "event": f"/event?id={EVENT}&", "system": "/system?"}
    done = {"tables": {}}
    for name, path in paths.items():
        page.goto(f"{SERVER}{path}{RANGE}")
        settled(page)
        done["tables"][name] = page.evaluate("Object.fromEntries([...document.querySelectorAll('main table')].map((table) => [table.caption.textContent, [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.innerText))]))")
        if name == "funnel":
            done["funnel"] = page.locator(".funnel-name b").all_inner_texts()
        if name == "forecast":
            done["forecast"] = page.inner_text(".plain strong")
        if name == "event":
            done["verdicts"] = page.locator(".tag").all_inner_texts()
        if name == "heatmap":
            page.locator(".heat").focus()
            for key in ["ArrowLeft"] * 24 + ["ArrowDown"] * 5:
                page.keyboard.press(key)
            done["heat"] = {"fields": page.locator(".heat rect:not(.cursor)").count(), "sums": page.locator(".heat-beside dd").all_inner_texts(), "told": page.inner_text(".heat-legend .note")}
    return done


def paint(browser):
    """How long until something is there and until all is, in a browser that has seen nothing of it yet; and what that waits for."""
    done = {"paints": [], "pages": []}
    for _ in range(5):
        page = browser.new_context().new_page()
        page.goto(f"{SERVER}/?{RANGE}")
        settled(page)
        done["pages"].append(round(page.evaluate("performance.now()")))
        done["paints"].append(round(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")))
        blocking = page.evaluate("performance.getEntriesByType('resource').filter((one) => one.renderBlockingStatus === 'blocking').map((one) => [one.name.split('/').pop(), one.transferSize])")
        document = page.evaluate("performance.getEntriesByType('navigation')[0].transferSize")
        page.context.close()
    return {**done, "blocking": sorted(name for name, _ in blocking), "bytes": document + sum(size for _, size in blocking)}


def figures(browser):
    page = browser.new_page(locale="en-US")
    page.goto(f"{SERVER}/?{RANGE}")
    settled(page)
    cards = {element.get_attribute("data-figure"): element.inner_text() for element in page.locator("[data-figure]").all()}
    page.goto(f"{SERVER}/campaigns?{RANGE}")
    settled(page)
    rows = page.locator("main tbody tr").count()
    sums = {element.get_attribute("data-sum"): element.inner_text() for element in page.locator("[data-sum]").all()}
    page.get_by_label("Find a campaign").fill("campaign-0999")
    until(page, "document.querySelectorAll('main tbody tr').length === 1")
    with page.expect_download() as saved:
        page.get_by_role("button", name="CSV").click()
    text = open(saved.value.path()).read()
    page.get_by_label("Find a campaign").fill("")
    page.get_by_role("button", name="Campaign", exact=True).click()
    until(page, "document.querySelector('main tbody th').textContent === 'campaign-0000'")
    page.get_by_role("button", name="Campaign", exact=True).click()
    until(page, "document.querySelector('main tbody th').textContent === 'campaign-0999'")
    page.locator("main tbody a").first.click()
    page.wait_for_selector(".crumbs")
    return {"cards": cards, "rows": rows, "sums": sums, "csv": text, "address": page.url}


def live(browser):
    """A click is sent; how long until it is on the screen? Then without sockets."""
    done = {}
    for way in ["socket", "events"]:
        page = browser.new_page(locale="en-US")
        if way == "events":
            page.add_init_script("window.WebSocket = class { constructor() { setTimeout(() => this.onclose()); } close() {} };")
        page.goto(f"{SERVER}/")
        page.wait_for_selector('[data-live="clicks"] b', timeout=20_000)
        before = number(page.inner_text('[data-live="clicks"] b'))
        sent = time.monotonic()
        send({"kind": "click", "campaign_id": f"now-{way}", "ad_id": "a", "user_id": way})
        until(page, "before => Number(document.querySelector('[data-live=\"clicks\"] b').textContent) > before", before)
        done[way] = time.monotonic() - sent
        done[f"{way}_campaigns"] = page.inner_text(".live-campaigns")
        page.close()
    return done


def restart(browser):
    """The server goes away and comes back, told line by line by whoever runs it."""
    page = browser.new_page()
    page.goto(f"{SERVER}/")
    page.wait_for_selector(".pill.live", timeout=20_000)
    page.wait_for_selector(".seal-panel .seal")
    print("live", flush=True)
    sys.stdin.readline()
    page.wait_for_selector(".pill.away", timeout=20_000)
    told = page.inner_text(".state-note >> nth=0")
    page.wait_for_selector(".seal-panel .state-old", timeout=30_000)
    old = page.inner_text(".seal-panel")
    page.get_by_role("link", name="Geography").click()
    page.wait_for_selector(".state-error", timeout=20_000)
    unreachable = page.inner_text(".state-error >> nth=0")
    print("away", flush=True)
    sys.stdin.readline()
    page.wait_for_selector(".pill.live", timeout=40_000)
    until(page, "document.querySelectorAll('.state-error').length === 0")
    settled(page)
    return {"told": told, "unreachable": unreachable, "old": old}


def errors(browser):
    """The server says no, and the page says what and what to do."""
    page = browser.new_page()
    problem = {"title": "The question took too long", "detail": "ask for a shorter time", "status": 504}
    page.route("**/v1/query", lambda route: route.fulfill(status=504, content_type="application/problem+json", body=json.dumps(problem)))
    page.goto(f"{SERVER}/geography?{RANGE}")
    page.wait_for_selector(".state-error")
    said = page.inner_text(".state-error >> nth=0")
    page.unroute("**/v1/query")
    page.get_by_role("button", name="Try again").first.click()
    page.wait_for_selector("table")
    page.route("**/v1/verify?*", lambda route: route.fulfill(status=409, content_type="application/json", body='{"holds":false,"report":{"received":3,"kinds":[],"differences_total":2}}'))
    page.goto(f"{SERVER}/")
    page.wait_for_selector(".seal.broken")
    return {"said": said, "seal": page.inner_text(".seal.broken")}


def sign_in(browser, key):
    page = browser.new_page()
    page.goto(f"{SERVER}/quality?{RANGE}")
    page.wait_for_selector("#key")
    page.fill("#key", "tally_00000000_" + "0" * 64)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".wrong:not(:empty)")
    refused = page.inner_text(".wrong")
    page.fill("#key", key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector(".pill.live", timeout=20_000)
    settled(page)
    cookie = [cookie for cookie in page.context.cookies() if cookie["name"] == "tally_session"][0]
    here = page.url
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_selector("#key")
    return {"refused": refused, "address": here, "cookie": {name: cookie[name] for name in ["httpOnly", "sameSite"]}, "value": cookie["value"], "after": page.url}


def periods(browser):
    """What the page's own functions make of names of periods, and of texts that a spreadsheet would run."""
    page = browser.new_page()
    page.goto(f"{SERVER}/")
    return page.evaluate(
        """async () => {
            const folder = document.querySelector('script[type=module]').src.replace('app.js', '');
            const { rangeOf, buckets, bucketStart } = await import(folder + 'range.js');
            const { csvText } = await import(folder + 'dom.js');
            const period = (name, tz, now) => {
                const range = rangeOf(new URLSearchParams({ range: name, tz }), Date.parse(now));
                return [range.from, range.to].map((ms) => new Date(ms).toISOString().slice(0, 16));
            };
            const india = rangeOf(new URLSearchParams({ range: '24h', tz: 'Asia/Kolkata' }), Date.parse('2026-06-10T10:20:00Z'));
            return {
                spring: period('today', 'Europe/Berlin', '2026-03-29T12:00:00Z'),
                autumn: period('today', 'Europe/Berlin', '2026-10-25T12:00:00Z'),
                month: period('last-month', 'America/New_York', '2026-03-15T12:00:00Z'),
                day: period('24h', 'UTC', '2026-06-10T10:20:00Z'),
                india: buckets(india).includes(bucketStart('2026-06-10T12:00:00+05:30', 'Asia/Kolkata')),
                csv: csvText([{ name: 'a' , value: (row) => row }], ['=1+1', 'x,"y"', -5]),
            };
        }"""
    )


ANALYSES = {
    "compare": {"rows": [{"campaign_id": "spring", "clicks": {"now": 120, "before": 100, "change": 20, "change_ratio": 0.2}, "cvr": {"now": 0.1, "before": None, "change": None, "change_ratio": None}}]},
    "ab-test": {
        "variants": [{"value": "a", "trials": 1000, "successes": 50, "rate": 0.05}, {"value": "b", "trials": 1000, "successes": 90, "rate": 0.09}, {"value": "c", "trials": 20, "successes": 1, "rate": 0.05}],
        "tests": [
            {"value": "b", "z": 3.5, "p_value": 0.0004, "difference": 0.04, "interval": [0.017, 0.063], "power": 0.94, "verdict": "better"},
            {"value": "c", "z": 0, "p_value": 1, "difference": 0, "interval": [-0.1, 0.1], "power": 0.05, "verdict": "no_difference_shown"},
        ],
        "sample_ratio": {"chi_square": 900, "p_value": 0, "mismatch": True},
    },
    "funnel": {"steps": [{"name": "impression", "users": 400, "of_first": 1, "of_previous": 1}, {"name": "click", "users": 40, "of_first": 0.1, "of_previous": 0.1}, {"name": "conversion", "users": 10, "of_first": 0.025, "of_previous": 0.25}], "segments": []},
    "heatmap": {"columns": 24, "rows": 20, "clicks": 7, "without_position": 2, "bins": [{"column": 3, "row": 4, "clicks": 5, "share": 0.71}, {"column": 4, "row": 4, "clicks": 2, "share": 0.29}]},
    "forecast": {"history": [{"at": "2024-05-05T00:00:00Z", "value": 3}, {"at": "2024-05-05T01:00:00Z", "value": 5}], "forecast": [{"at": "2024-05-05T02:00:00Z", "value": 6, "low": 4, "high": 8}], "trend": 1, "season_length": 24, "backtest": {"method": "m", "mape": 0.12, "coverage": 0.9}},
}


def analyses(browser):
    """What the pages make of answers of a known shape."""
    page = watched(browser.new_page(locale="en-US"), troubles := [])
    page.route("**/v1/analyses/*", lambda route: route.fulfill(content_type="application/json", body=json.dumps(ANALYSES[route.request.url.rsplit("/", 1)[1]])))
    done = {"troubles": troubles}
    for path in ["compare", "funnel", "heatmap", "forecast"]:
        page.goto(f"{SERVER}/{path}?{RANGE}")
        settled(page)
        if path == "heatmap":
            page.locator(".heat").focus()
            for key in ["ArrowLeft", "ArrowUp", "ArrowRight"]:
                page.keyboard.press(key)
        done[path] = page.inner_text("main")
    page.goto(f"{SERVER}/heatmap?{RANGE}")
    settled(page)
    done["fields"] = page.locator(".heat rect:not(.cursor)").count()
    return done


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        if WHAT == "every_page":
            axe = os.environ.get("TALLY_TEST_AXE")
            done = every_page(browser, open(axe).read() if axe else None)
        elif WHAT == "sign_in":
            done = sign_in(browser, sys.stdin.readline().strip())
        else:
            done = {"figures": figures, "live": live, "restart": restart, "errors": errors, "periods": periods, "analyses": analyses, "tables": tables, "paint": paint}[WHAT](browser)
        print(json.dumps(done))
        browser.close()


main()
