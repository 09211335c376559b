"""A person on a page with ads, in headless Chromium: what the tag says of it. Prints what was done, as JSON.

Arguments: the browser, the server's address, and the element that `tally tag` printed.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from playwright.sync_api import sync_playwright

BROWSER, SERVER, ELEMENT = sys.argv[1:4]

# What a consent manager answers: TCF, GPP and U.S. Privacy.
CONSENT = """<script>
  window.__tcfapi = (command, version, callback) => callback({gdprApplies: true, tcString: "CPXxRfAPXxRfA"}, true);
  window.__gpp = (command, callback) => callback({gppString: "DBABMA~CPX", applicableSections: [2, 6]}, true);
  window.__uspapi = (command, version, callback) => callback({uspString: "1YNN"}, true);
</script>"""

AD = '<div id="%s" style="width:300px;height:250px;background:#ccc" data-tally-campaign-id="spring" data-tally-ad-id="%s">%s</div>'

PAGES = {
    "/": CONSENT
    + ELEMENT
    + '<div style="height:3000px">far above</div>'
    + AD % ("seen", "seen", "an ad")
    + '<div style="height:3000px">far below</div>'
    + AD % ("away", "away", '<a id="leave" href="/landing">leaves at once</a>')
    + AD % ("redirect", "redirect", f'<a id="go" href="{SERVER}/v1/click?campaign_id=spring&ad_id=redirect&to=http%3A%2F%2F127.0.0.1%2F">goes</a>'),
    "/landing": ELEMENT + "landed",
    "/tampered": ELEMENT.replace("sha384-", "sha384-AAAA") + AD % ("seen", "seen", "an ad"),
}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("<!doctype html>" + PAGES[self.path] if self.path in PAGES else "").encode()
        self.send_response(200 if body else 404)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def waiting(page):
    """How many events wait to be acknowledged."""
    return page.evaluate(
        "Object.entries(localStorage).filter(([key]) => key.startsWith('tally.queue'))"
        ".reduce((sum, [, value]) => sum + JSON.parse(value).length, 0)"
    )


def until_nothing_waits(page):
    page.wait_for_function(
        "!Object.keys(localStorage).some((key) => key.startsWith('tally.queue'))", timeout=20_000
    )


def main():
    pages = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=pages.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{pages.server_port}"
    done = {}
    with sync_playwright() as playwright:
        # Not headless by its own word, or all of it would be a robot's; for the whole browser, since a beacon outlives its page.
        agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
        flags = ["--no-sandbox", f"--user-agent={agent}"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        context = browser.new_context(viewport={"width": 800, "height": 600})
        page = context.new_page()
        events = []
        page.on("request", lambda request: request.url.endswith("/v1/events") and events.append(request))

        page.goto(site + "/")
        page.wait_for_function("window.tally")
        page.wait_for_timeout(1_500)
        done["before_anything_was_seen"] = len(events)
        # Twice for less than a second. Timed by the page itself, so that a slow machine makes no second of it.
        for _ in range(2):
            page.evaluate(
                """() => new Promise((done) => {
                    document.querySelector('#seen').scrollIntoView({block: 'center'});
                    setTimeout(() => (scrollTo(0, 0), setTimeout(done, 1_200)), 400);
                })"""
            )
        done["after_half_a_second"] = len(events)
        with page.expect_request("**/v1/events", timeout=20_000):
            page.evaluate("document.querySelector('#seen').scrollIntoView({block: 'center'})")
        until_nothing_waits(page)
        page.wait_for_timeout(1_500)
        done["after_it_was_seen"] = len(events)

        page.click("#seen", position={"x": 75, "y": 125})
        until_nothing_waits(page)

        # The server is out of reach: what happens meanwhile waits, and keeps its id.
        page.route("**/v1/events", lambda route: route.abort())
        page.click("#seen", position={"x": 150, "y": 50})
        page.wait_for_timeout(1_500)
        done["waiting_while_out_of_reach"] = waiting(page)
        page.unroute("**/v1/events")
        until_nothing_waits(page)

        # The page goes away in the same moment.
        page.click("#leave")
        page.wait_for_url(site + "/landing")
        page.go_back()
        page.wait_for_function("window.tally")
        done["redirect"] = page.evaluate(
            """async () => {
                const link = document.querySelector('#go');
                link.addEventListener('click', (event) => event.preventDefault());
                return link.href;
            }"""
        )
        page.click("#go", position={"x": 5, "y": 5})
        done["redirect_with_place"] = page.evaluate("document.querySelector('#go').href")

        page.goto(site + "/tampered")
        page.wait_for_timeout(500)
        done["tampered_tag_runs"] = page.evaluate("Boolean(window.tally)")
        page.goto(site + "/landing")
        # What the page that went away had queued comes again once it is ten seconds old; its id is known by then.
        page.evaluate(
            """() => Object.entries(localStorage).filter(([key]) => key.startsWith('tally.queue')).forEach(([key, value]) => {
                const older = JSON.parse(value).map((event) => ({...event, at: event.at - 11_000}));
                localStorage.setItem(key, JSON.stringify(older));
            })"""
        )
        page.reload()
        page.wait_for_function("window.tally")
        until_nothing_waits(page)
        # The same id comes as often as it is tried.
        tried = [dict(parse_qsl(request.post_data)) for request in events]
        done["events"] = list({event["event_id"]: event for event in tried}.values())
        browser.close()
    print(json.dumps(done))


main()
