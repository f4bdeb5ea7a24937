"""The dashboard of a running receiver, asked over HTTP and looked at in a real Chromium.

Without Chromium the tests that look are skipped; PENPOT_TELEMETRY_REQUIRE_BROWSER=1 makes that a failure.
"""

import json
import os
import signal
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from uuid import UUID

import pytest
import requests

from penpot_telemetry.wire import payload
from penpot_telemetry.wire.batch import EventRow, encode_events
from receiver.questions.cards import all_cards
from tests.integration.receiving import Running, running, wait_until
from tests.web.browser import Browser, browsing, find_chromium

PUBLIC = sorted(card.name for card in all_cards().values() if card.audience == "public")
TODAY = datetime.now(UTC).date()
DAYS = 30
TOKEN = "a-token-for-readers"  # noqa: S105  of this test
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066",
    "👩‍👩‍👧 naïve & <b>bold</b>",
    "a\x01\x00\x1b[31mb\ufffe",
    '=HYPERLINK("http://example.org")',
    "long" * 62 + "er",
)


def millis(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def instance(number: int) -> UUID:
    return UUID(int=(0x40008000 << 64) + number + 1)


def month_of(number: int, names: tuple[str, ...] = ("navigate", "update-file")) -> bytes:
    """A body with a month of one Penpot: a profile more each week, every name once a week."""
    events = []
    for ago in range(DAYS, 0, -1):
        for person in range(1 + ago // 7):
            profile = UUID(int=number * 1000 + person + 1).bytes
            context = (
                f'{{"~:browser":"{("Firefox", "Chrome")[person % 2]}","~:screen-width":{1280 + 640 * (number % 2)}}}'
            )
            for name in names if ago % 7 == 1 else names[:1]:
                day = millis(TODAY - timedelta(days=ago))
                events.append(EventRow(name, "action", "telemetry", day, profile, "{}", context))
    version = "2.18.0" if number else "2.19.0-lone"
    return payload.build_events(payload.EventsBatch(version, instance(number), encode_events(events)))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A receiver that heard of a month of six Penpots, one of them on a version of its own, and of hostile names."""
    with running(tmp_path_factory.mktemp("fleet")) as receiver:
        for number in range(6):
            assert receiver.receipt(month_of(number, ("navigate", "update-file", *HOSTILE)))["status"] == "accepted"
        assert receiver.receipt(b"not json")["status"] == "quarantined"
        receiver.wait_until_added_up()
        yield receiver


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        message = "no browser: apt-get install chromium"
        if os.environ.get("PENPOT_TELEMETRY_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with browsing(program) as found:
        yield found


def get(receiver: Running, path: str, **options: object) -> requests.Response:
    return requests.get(receiver.url + path, timeout=60, **options)  # type: ignore[arg-type]


def rows(receiver: Running, question: str, query: str = "") -> list[dict[str, object]]:
    found: list[dict[str, object]] = receiver.get(f"/questions/{question}.json{query}")["rows"]
    return found


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_an_empty_receiver_says_how_to_send_the_first_batch_and_shows_it_when_it_came(tmp_path: Path) -> None:
    with running(tmp_path) as receiver:
        page = get(receiver, "/")
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert f"PENPOT_TELEMETRY_URI={receiver.url}/telemetry" in page.text
        assert get(receiver, "/questions/active_profiles").status_code == 200
        receiver.receipt(month_of(1))
        wait_until(lambda: "Active profiles" in get(receiver, "/").text)


def test_the_front_page_has_the_numbers_with_what_they_are_out_of(fleet: Running) -> None:
    page = get(fleet, "/").text
    assert "the last closed day" in page
    assert "6 of 6 known instances reporting (100%)" in page
    assert "fresh at " in page
    for name in ("active_instances", "version_adoption", "feature_usage", "platforms", "instance_sizes", "lateness"):
        assert f'href="/questions/{name}.csv"' in page
        assert all_cards()[name].denominator.split(";")[0] in page


@pytest.mark.parametrize("question", PUBLIC)
def test_a_question_is_there_as_a_page_and_as_files(fleet: Running, question: str) -> None:
    card = all_cards()[question]
    page = get(fleet, f"/questions/{question}")
    assert page.status_code == 200
    assert card.title in page.text
    assert get(fleet, f"/questions/{question}.sql").text == card.sql
    columns = list(card.columns)
    assert get(fleet, f"/questions/{question}.csv").text.splitlines()[0].split(",") == columns
    assert all(list(row) == columns for row in rows(fleet, question))
    picture = get(fleet, f"/questions/{question}.svg?width=narrow&theme=dark")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert ET.fromstring(picture.content).tag.endswith("svg")  # noqa: S314  drawn by our own server


def test_all_questions_are_listed_but_those_for_operators(fleet: Running) -> None:
    page = get(fleet, "/questions").text
    assert all(f'href="/questions/{name}"' in page for name in PUBLIC)
    assert "suspect_ids" not in page
    assert get(fleet, "/questions/suspect_ids.json").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/?first_day=yesterday", 400, "first_day is not a day like"),
        ("/?first_day=2026-03-02&last_day=2026-03-01", 400, "after last_day"),
        ("/?threshold=0", 400, "threshold is not between"),
        ("/?threshold=many", 400, "threshold is not a whole number"),
        ("/?colour=red", 400, "for nothing else"),
        ("/?version=%3Cscript%3E", 400, "fewer than 5 instances"),
        ("/questions/nonsense", 404, "no question of that name"),
        ("/questions/nonsense.json", 404, "no question of that name"),
        ("/questions/overview.xlsx", 404, "not in this form"),
        ("/questions/overview.csv?instance=me", 400, "instance is not an id"),
        ("/questions/overview.svg?theme=pink", 400, "theme is light or dark"),
        ("/static/../app.py", 404, ""),
        ("/static/nothing.css", 404, ""),
    ],
)
def test_what_cannot_be_asked_is_answered_in_words(fleet: Running, path: str, status: int, words: str) -> None:
    answer = get(fleet, path)
    assert answer.status_code == status
    assert words in answer.text
    assert "<script>" not in answer.text
    is_page = path.startswith("/?") or path == "/questions/nonsense"
    assert answer.headers["content-type"].startswith("text/html" if is_page else "application/json")


@pytest.mark.parametrize(
    "path", ["/", "/questions", "/questions/overview", "/questions/overview.json", "/static/style.css"]
)
def test_head_is_answered_as_get_without_the_body(fleet: Running, path: str) -> None:
    answer = requests.head(fleet.url + path, timeout=60)
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 100
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_reader_can_raise_the_threshold_and_not_lower_it(fleet: Running) -> None:
    usual = rows(fleet, "active_instances")
    assert usual[-3]["active_1d"] == 6
    assert rows(fleet, "active_instances", "?threshold=1") == usual
    assert rows(fleet, "version_adoption", "?threshold=1") == rows(fleet, "version_adoption")
    raised = rows(fleet, "active_instances", "?threshold=7")[-3]
    assert (raised["active_1d"], raised["suppressed"]) == (None, True)
    assert "fewer than 7" in get(fleet, "/?threshold=7").text


def test_neither_an_instance_nor_a_version_of_a_few_can_be_singled_out(fleet: Running) -> None:
    for path in ("/", "/questions/active_profiles", "/questions/active_profiles.json", "/questions/overview.csv"):
        assert get(fleet, f"{path}?instance={instance(0)}").status_code == 400
    lone, unknown = (get(fleet, f"/?version={version}") for version in ("2.19.0-lone", "9.9.9"))
    assert (lone.status_code, lone.text) == (400, unknown.text)
    assert get(fleet, "/?version=2.18.0").status_code == 200
    page = get(fleet, "/").text
    assert "<option>2.18.0</option>" in page
    assert "<option>2.19.0-lone" not in page
    assert 'name="instance"' not in page


def test_where_nothing_is_hidden_an_instance_can_be_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_THRESHOLD="1") as receiver:
        receiver.receipt(month_of(0))
        receiver.wait_until_added_up()
        assert rows(receiver, "active_instances", f"?instance={instance(0)}")[-3]["active_1d"] == 1
        assert rows(receiver, "active_instances", f"?instance={instance(1)}")[-3]["active_1d"] == 0
        assert 'name="instance"' in get(receiver, "/").text


def test_no_cell_of_a_csv_is_a_formula(fleet: Running) -> None:
    text = get(fleet, "/questions/feature_usage.csv").text
    assert "'=HYPERLINK" in text
    assert not any(line.lstrip('"').startswith("=") for line in text.splitlines())


def test_hostile_names_are_texts_in_a_page_and_in_a_picture(fleet: Running) -> None:
    page = get(fleet, "/questions/feature_usage").text
    assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>" in page
    assert "<script" not in page
    assert "onerror=alert(1)>" not in page
    assert "{{ 7 * 7 }}" in page
    picture = ET.fromstring(get(fleet, "/questions/feature_usage.svg").content)  # noqa: S314  likewise
    texts = " ".join(picture.itertext())
    assert "<script>alert(1)</script>" in texts
    assert "\u202e" not in texts
    assert not [tag for tag in picture.iter() if tag.tag.endswith(("script", "foreignObject", "image"))]


def test_reading_needs_the_token_when_there_is_one(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_READ_TOKEN=TOKEN) as receiver:
        for path in ("/", "/questions", "/questions/overview.json", "/static/style.css"):
            assert get(receiver, path).status_code == 401
            assert get(receiver, path, auth=("reader", TOKEN)).status_code == 200


def test_a_pen_that_died_is_replaced_and_none_knows_a_secret_or_outlives_its_receiver(tmp_path: Path) -> None:
    with running(tmp_path, RECEIVER_INGEST_KEY="a-secret-of-senders") as receiver:
        assert get(receiver, "/questions/overview.svg").status_code == 200
        (first,) = children(receiver.process.pid)
        os.kill(first, signal.SIGKILL)
        assert get(receiver, "/questions/overview.svg?theme=dark").status_code == 200
        (second,) = children(receiver.process.pid)
        assert second != first
        assert b"a-secret" in Path(f"/proc/{receiver.process.pid}/environ").read_bytes()
        assert b"a-secret" not in Path(f"/proc/{second}/environ").read_bytes()
        receiver.kill()
        wait_until(lambda: not is_running(second))


def children(pid: int) -> list[int]:
    """The processes that a process started and that run."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, found) if is_running(child)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- in a browser ---------------------------------------------------------------------------------------------------

LOADED = "[...document.images].every(image => image.naturalWidth > 0) && document.images.length"
TOO_WIDE = "document.documentElement.scrollWidth - window.innerWidth"
PAPER = "getComputedStyle(document.body).backgroundColor"


def assert_clean(browser: Browser, receiver: Running) -> None:
    """No error, nothing refused by the policy, and no other host."""
    assert browser.seen.problems == []
    assert browser.seen.requests
    ours = (receiver.url + "/", "data:")  # the browser draws its own calendar beside a date
    assert [url for url in browser.seen.requests if not url.startswith(ours)] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_whole_at_any_width_and_in_either_theme(
    fleet: Running, browser: Browser, width: int, dark: bool
) -> None:
    browser.open(fleet.url + "/", width=width, dark=dark)
    assert_clean(browser, fleet)
    assert browser.run(LOADED) >= 6
    assert browser.run(TOO_WIDE) <= 0
    theme, size = ("dark" if dark else "light"), ("wide" if width > 560 else "narrow")
    pictures = [url for url in browser.seen.requests if ".svg" in url and "/questions/" in url]
    assert pictures
    assert all(f"width={size}&theme={theme}" in url for url in pictures)
    red = int(browser.run(PAPER).removeprefix("rgb(").split(",")[0])
    assert (red < 64) if dark else (red > 192)


def test_the_two_themes_are_different_pictures(fleet: Running, browser: Browser) -> None:
    pictures = []
    for dark in (False, True):
        browser.open(fleet.url + "/questions/active_profiles", dark=dark)
        pictures.append(browser.picture())
    assert pictures[0] != pictures[1]


def test_open_details_and_hostile_names_stay_within_a_phone(fleet: Running, browser: Browser) -> None:
    browser.open(fleet.url + "/", width=390)
    browser.run("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.run(TOO_WIDE) <= 0
    assert browser.run("document.body.innerText").count("<script>alert(1)</script>") >= 1
    assert browser.run("document.querySelectorAll('script, main img[onerror], b').length") == 0
    assert_clean(browser, fleet)


def test_an_empty_page_and_a_refusal_are_whole_too(tmp_path: Path, browser: Browser) -> None:
    with running(tmp_path) as receiver:
        for path in ("/", "/questions", "/questions/overview"):
            browser.open(receiver.url + path, width=390)
            assert_clean(browser, receiver)
            assert browser.run(TOO_WIDE) <= 0
        browser.open(receiver.url + "/?first_day=never", width=390)
        assert browser.run(TOO_WIDE) <= 0
        assert "first_day is not a day" in browser.run("document.body.innerText")


def test_it_works_with_the_keyboard(fleet: Running, browser: Browser) -> None:
    browser.open(fleet.url + "/")
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to the content"
    assert browser.run("document.activeElement.getBoundingClientRect().top") >= 0
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "content"
    browser.press("Tab")
    assert browser.run("document.activeElement.name") == "first_day"


def test_the_filters_ask_again(fleet: Running, browser: Browser) -> None:
    browser.open(fleet.url + "/")
    last = (TODAY - timedelta(days=20)).isoformat()
    browser.run(f"document.querySelector('[name=last_day]').value = '{last}'")
    browser.run("document.querySelector('[name=version]').value = '2.18.0'")
    browser.run("document.querySelector('form button').click()")
    browser.wait_until("location.search.includes('last_day') && document.readyState == 'complete'")
    assert browser.run("document.querySelector('[name=version]').value") == "2.18.0"
    assert f"to {last}" in browser.run("document.querySelector('.sums').textContent")
    assert "last_day" in browser.run("document.querySelector('.links a').href")
    assert_clean(browser, fleet)


def test_a_reader_with_the_token_gets_all_of_the_page(tmp_path: Path, browser: Browser) -> None:
    with running(tmp_path, RECEIVER_READ_TOKEN=TOKEN) as receiver:
        receiver.receipt(month_of(1))
        wait_until(lambda: "Active profiles" in get(receiver, "/", auth=("", TOKEN)).text)
        browser.open(receiver.url + "/", token=TOKEN)
        assert_clean(browser, receiver)
        assert browser.run("getComputedStyle(document.querySelector('.top')).display") == "flex"


def test_a_receiver_that_stops_takes_its_pen_along(fleet: Running) -> None:  # the last that needs it
    assert get(fleet, "/questions/overview.svg").status_code == 200
    (worker,) = children(fleet.process.pid)
    assert fleet.stop() == 0
    assert not is_running(worker)


# --- pages of others ------------------------------------------------------------------------------------------------


class Elsewhere(BaseHTTPRequestHandler):
    """An empty page of another site."""

    def do_GET(self) -> None:
        """The page."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_page_of_another_site_loads_no_batch_and_makes_no_snapshot(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path) as receiver, HTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{other.server_port}/")
        body = json.dumps(month_of(1).decode())
        for path in ("/", "/telemetry", "/snapshot"):
            browser.run(
                f"fetch('{receiver.url}{path}', {{method: 'POST', mode: 'no-cors', body: {body}}}).catch(() => 0)"
            )
        form = "const f = document.createElement('form'); f.method = 'post'; f.action = "
        browser.run(f"{form}'{receiver.url}/snapshot'; document.body.append(f); f.submit()")
        wait_until(lambda: 'receiver_refused_total{status="403"} 4.0' in get(receiver, "/metrics").text)
        assert receiver.get("/status")["received"] == 0
        assert list(tmp_path.glob("*snapshot*")) == []
        other.shutdown()
