"""Public user agents through the rule, and what another program, ua-parser-js, still reads in what is left."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from penpot_telemetry.user_agents import MOST_TEXT, reduce_user_agent

PUBLIC: dict[str, Any] = json.loads((Path(__file__).parent.parent / "data" / "user_agents.json").read_text())
TODAY = ("top-user-agents 2.1.138", "user-agents 2.1.198")
AGENTS = [row for rows in PUBLIC["agents"].values() for row in rows]
PLAIN_MODELS = {"iPhone", "iPad", "iPod", "iPod touch", "Macintosh", "Xbox", "Xbox One", "Touch", "K"}
"""What the parser takes for a model and everybody has."""

READ_AGAIN = 0.94
"""Measured: 967 of 1,020. The rest are apps of before 2015, and Facebook's, whose words are not kept."""


def test_there_are_many_of_them() -> None:
    assert len(AGENTS) > 1000


@pytest.mark.parametrize("package", TODAY)
def test_the_browser_and_its_major_version_are_read_in_every_user_agent_of_today(package: str) -> None:
    for agent, browser, major, _ in PUBLIC["agents"][package]:
        assert PUBLIC["reduced"][reduce_user_agent(agent)] == [browser, major], agent


def test_they_are_read_in_most_user_agents_of_all_times() -> None:
    browsers = [row for row in AGENTS if row[1]]
    same = [row for row in browsers if PUBLIC["reduced"][reduce_user_agent(row[0])] == row[1:3]]
    assert len(same) / len(browsers) >= READ_AGAIN


def test_few_user_agents_have_no_known_word() -> None:
    unknown = [row[0] for row in AGENTS if reduce_user_agent(row[0]) == "other"]
    assert len(unknown) <= 12


def test_no_model_is_named() -> None:
    for agent, _, _, model in AGENTS:
        if model and model not in PLAIN_MODELS:
            left = reduce_user_agent(agent)
            assert not re.search(rf"(?<!\w){re.escape(model)}(?!\w)", left), agent
            assert "Build" not in left


def test_what_is_reduced_stays_so() -> None:
    for agent in AGENTS:
        left = reduce_user_agent(agent[0])
        assert reduce_user_agent(left) == left


@pytest.mark.parametrize(
    ("agent", "left"),
    [
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S918B Build/UP1A.231005.007; wv) AppleWebKit/537.36 "
            "(KHTML, like Gecko) Version/4.0 Chrome/126.0.6478.122 Mobile Safari/537.36",
            "Mozilla/5.0 (Linux; Android 10; K; wv) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Version/4 Chrome/126.0.0.0 Mobile Safari/537.36",
        ),
        (
            "Mozilla/5.0 (Linux; Android 9; moto g(7) supra Build/PCOS29; wv) AppleWebKit/537.36 Chrome/73.0.3683.90",
            "Mozilla/5.0 (Linux; Android 10; K; wv) AppleWebKit/537.36 Chrome/73.0.0.0",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Brave/1 Mobile/15F79 Safari/604.1",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Brave/1.0.0.0 Mobile/15E148 Safari/604.1",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 "
            "Safari/537.36 OPR/110.0.5130.39 (Edition std-1)",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 "
            "Safari/537.36 OPR/110.0.0.0",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
            "Safari/605.1.15",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17 "
            "Safari/605.1.15",
        ),
        (
            "Mozilla/5.0 (Android 13; Mobile; rv:109.0) Gecko/115.0 Firefox/115.0.2",
            "Mozilla/5.0 (Android 10; Mobile; rv:109.0) Gecko/115 Firefox/115.0",
        ),
        (
            "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko",
            "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; rv:11.0) like Gecko",
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 15917.71.0) Chrome/127.0.1",
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/127.0.0.0",
        ),
        ("python-requests/2.32.3", "python-requests/2"),
        ("curl/8.14.1", "curl/8"),
        ("okhttp/4.9.3", "okhttp/4"),
        ("penpot-exporter/2.4.0-RC1", "penpot-exporter/2"),
        ("Apache-HttpClient/4.5.14 (Java/17.0.1)", "Apache-HttpClient/4 (Java/17)"),
        ("curl/8.14.1 token ", "curl/8"),
        ("Mozilla/5.0 (Ada Lovelace)", "Mozilla/5.0"),
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64) Chrome/203.0.0.0"),
        ("Mozilla/5.0 (compatible; +https://example.org)", "Mozilla/5.0 (compatible)"),
        ("Mozilla/5.0 (Ada; Android 14; Ada's phone", "Mozilla/5.0 (Android 10; K)"),
        ("AcmeCorp-Sync/1.0", "other"),
        ("Chrome/1784554662123", "Chrome"),
        ("other", "other"),
        ("()", "other"),
        (" ", "other"),
    ],
)
def test_a_user_agent_is_reduced_as_browsers_do(agent: str, left: str) -> None:
    assert reduce_user_agent(agent) == left
    assert reduce_user_agent(left) == left


@pytest.mark.parametrize(
    "hostile",
    [
        "(" * 1_000_000,
        "(a" * 500_000,
        "((a)" * 250_000,
        "Chrome/1 " * 100_000,
        "(Android 1;" + "Android 1;" * 100_000 + ")",
        "(" + ";" * 1_000_000 + ")",
        "Intel Mac OS X 10" + "_1" * 500_000,
        "(CPU OS 1" + ".1" * 500_000 + ")",
        " " * 1_000_000,
        "x" * 1_000_000,
    ],
)
def test_hostile_text_is_read_up_to_a_limit_and_what_is_left_is_short(hostile: str) -> None:
    left = reduce_user_agent(hostile)
    assert len(left) <= MOST_TEXT
    assert reduce_user_agent(left) == left
