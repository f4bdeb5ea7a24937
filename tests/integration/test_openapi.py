"""The description of the HTTP face: every route is in it, nothing more, and a running receiver answers as it says."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest
import requests
from starlette.routing import BaseRoute

from penpot_telemetry.errors import Reason
from receiver.server.app import ROUTES
from tests.integration.receiving import Running, running

FILE = Path(__file__).parents[2] / "receiver" / "server" / "openapi.json"
DESCRIPTION: dict[str, Any] = json.loads(FILE.read_text())

PAGES = ("GET /", "GET /static", "GET /questions")
"""Left out of the description: pages for a browser, and what they load."""

TOKEN = "a-reading-token-of-tests"  # noqa: S105  of the tests only
KEY = "an-ingestion-key-of-tests"

SCHEMATHESIS = f"""
[auth.openapi.readToken]
bearer = "{TOKEN}"

[auth.openapi.ingestKey]
bearer = "{KEY}"

# What can never be read is answered with 200 and `quarantined`: a sender would repeat a refusal for ever.
[[operations]]
include-method = "POST"
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    environ = {"RECEIVER_READ_TOKEN": TOKEN, "RECEIVER_INGEST_KEY": KEY}
    with running(tmp_path_factory.mktemp("described"), **environ) as started:
        yield started


def list_requests(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """What the routes answer, as `METHOD /path/{parameter}`; HEAD comes with GET, a mounted folder is read."""
    for route in routes:
        path = re.sub(r":\w+}", "}", getattr(route, "path", str(route)))
        methods = (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}
        yield from (f"{method} {path}" for method in methods)


def is_page(line: str) -> bool:
    return any(line == page or line.startswith(page + "/") for page in PAGES)


def list_references(value: object) -> Iterator[str]:
    """Every `$ref` within a JSON value."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for child in value:
            yield from list_references(child)


def test_every_route_is_described_and_nothing_more() -> None:
    described = {f"{method.upper()} {path}" for path, item in DESCRIPTION["paths"].items() for method in item}
    assert described == {line for line in list_requests(ROUTES) if not is_page(line)}


def test_every_part_of_the_description_is_there_and_used() -> None:
    parts = {
        f"#/components/{kind}/{name}"
        for kind, named in DESCRIPTION["components"].items()
        if kind != "securitySchemes"
        for name in named
    }
    assert parts == set(list_references(DESCRIPTION))


def test_the_description_names_the_version_and_the_reasons_of_the_code() -> None:
    assert DESCRIPTION["info"]["version"] == version("penpot-telemetry")
    assert DESCRIPTION["components"]["schemas"]["Reason"]["enum"] == list(get_args(Reason))


def test_the_description_is_served_to_readers(receiver: Running) -> None:
    url = receiver.url + "/openapi.json"
    assert requests.get(url, timeout=20).status_code == 401
    answer = requests.get(url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=20)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DESCRIPTION


def test_a_method_that_is_not_allowed_is_answered_with_all_that_are(receiver: Running) -> None:
    for path, methods in (("/", "GET, HEAD, POST"), ("/telemetry", "POST"), ("/status", "GET, HEAD")):
        answer = requests.put(receiver.url + path, headers={"authorization": f"Bearer {TOKEN}"}, timeout=20)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)


def test_a_running_receiver_answers_as_described(receiver: Running, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)
    program = Path(sys.executable).with_name("schemathesis")
    bounds = ["--max-examples", "5", "--seed", "1", "--request-timeout", "60", "--suppress-health-check", "all"]
    done = subprocess.run(
        [program, "run", FILE, "--url", receiver.url, "--no-color", *bounds],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"Tested: {sum(map(len, DESCRIPTION['paths'].values()))}" in done.stdout
    bearer = {"authorization": f"Bearer {TOKEN}"}
    account = requests.get(receiver.url + "/status", headers=bearer, timeout=20).json()
    assert account["loaded"] >= 3 and account["quarantined"] > 0 and account["duplicate"] > 0
    assert all(check["holds"] for check in account["checks"])
