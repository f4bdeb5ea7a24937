"""The rule for context values, fed with what Penpot, ua-parser-js and browsers say, and with what they never would."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from penpot_telemetry.context_values import RULES, reduce_context, reduce_json, reduce_transit
from penpot_telemetry.events import CONTEXT_KEYS

DATA = Path(__file__).parent.parent / "data"

PARSER: dict[str, Any] = json.loads((DATA / "ua_parser_values.json").read_text())["versions"]
SAID = sorted(
    {
        (key, kind, word)
        for version in PARSER.values()
        for key, kinds in version.items()
        if isinstance(kinds, dict)
        for kind, words in kinds.items()
        for word in words
    }
)

# -- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["penpot-batch-1", "penpot-legacy-1"])
def test_of_what_a_real_penpot_wrote_only_the_user_agents_are_shortened(batch: str) -> None:
    with gzip.open(DATA / f"{batch}.expected.jsonl.gz", "rt", encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines if line.strip()]
    assert len(events) == 10_000
    for event in events:
        kept, changed, dropped = reduce_context(event["source"], event["context"])
        assert (dropped, {*changed} - {"client-user-agent"}) == (0, set())
        assert kept.keys() == event["context"].keys()
        assert all(kept[key] == value for key, value in event["context"].items() if key not in changed)
        assert kept.get("client-user-agent") != "other"


def test_the_lists_of_the_parser_are_whole() -> None:
    names = {key: {word for of, kind, word in SAID if of == key and kind == "named"} for key in ("browser", "os")}
    assert len(names["browser"]) > 163
    assert len(names["os"]) > 93
    assert next(iter(PARSER)) == "1.0.37"


def test_every_word_that_the_parser_can_say_stays_itself() -> None:
    """Words that the parser copies from a user agent have its case; the list gives them theirs."""
    for key, kind, word in SAID:
        kept = RULES[key](word)
        assert kept == word or (kind != "named" and str(kept).casefold() == word.casefold()), (key, word, kept)


def test_every_system_is_kept_beside_its_version_as_penpot_joins_them() -> None:
    for key, kind, word in SAID:
        if key == "os" and kind == "named":
            for version in ("", "14.5", "x86_64"):
                assert RULES["os"](f"{word} {version}") == f"{word} {version}"


def test_versions_of_systems_that_are_words_are_kept_or_cut_to_their_numbers() -> None:
    odd = {"1.9.2.13-1pclos2010", "1.9.2.22-0.1mdv2010.2", "armv61", "Browser"}  # addresses for all one knows; a slip
    for version in PARSER.values():
        for said in version.get("os-version", ()):
            word = said.partition("|")[2]
            kept = RULES["os-version"](word)
            assert isinstance(kept, str)
            if word not in odd:
                assert kept != "other", word
                assert kept.casefold() == word.casefold() or word.lstrip("v").startswith(kept), word


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", "2.18.0-RC1-17-g66bb6a11df"),
        ("version", "2.4.0-rc.1"),
        ("version", "2.5.0-DEV"),
        ("version", "develop-2.17.0-RC1"),
        ("version", "develop-2.17.0-RC1-42-g66bb6a11df"),
        ("version", "staging-2.4.0-RC3"),
        ("version", "main-2.6.1"),
        ("version", "v2.4.3"),
        ("version", "develop"),
        ("version", "%version%"),
        ("client-version", "staging-2.14.0-12-gdeadbeef0"),
        ("initiator", "app"),
        ("initiator", ":exporter"),
        ("locale", "zh_cn"),
        ("locale", "zh-Hant-TW"),
        ("browser", "Mobile Safari"),
        ("browser", ""),
        ("browser-version", "138.0.0.0"),
        ("browser-version", "138.0.7204.97"),
        ("os", "macOS 10.15.7"),
        ("os", "Linux x86_64"),
        ("os", "Linux aarch64"),
        ("os", "Ubuntu "),
        ("os", " "),
        ("os", "Windows XP"),
        ("os", "Windows NT 4.0"),
        ("os", "Xbox Series X"),
        ("os-version", ""),
        ("os-version", "x86_64"),
        ("engine", "Gecko"),
        ("device-type", "unknown"),
        ("device-arch", "arm64"),
        ("screen-width", 0),
        ("screen-color-depth", 30),
        ("screen-orientation", "portrait-secondary"),
        ("event-origin", "workspace:menu"),
        ("event-origin", ":workspace"),
        ("event-origin", ":onboarding-without-invitations"),
        ("event-origin", "dashboard"),
        ("event-namespace", "app.main.data.workspace.libraries"),
        ("event-symbol", "add-asset-to-library"),
        ("event-symbol", ":update-file"),
        ("client-user-agent", "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
         "Chrome/138.0.0.0 Mobile Safari/537.36"),
        ("client-user-agent", "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ],
)  # fmt: skip
def test_what_a_penpot_writes_under_a_safe_key_passes(key: str, value: object) -> None:
    assert reduce_context("telemetry", {key: value}) == ({key: value}, (), 0)


@pytest.mark.parametrize("origin", ["frontend", "backend"])
def test_only_the_safe_keys_of_the_origin_pass(origin: str) -> None:
    keys = CONTEXT_KEYS["telemetry"] | {"email", "Version", "session-id"}
    sizes = {"screen-width", "screen-height", "screen-color-depth"}
    reduced = reduce_context(origin, {key: 1 if key in sizes else "" for key in keys})
    assert reduced.context.keys() == CONTEXT_KEYS[origin]
    assert (reduced.changed, reduced.dropped) == ((), len(keys) - len(CONTEXT_KEYS[origin]))


def test_no_key_of_an_unknown_source_is_safe() -> None:
    assert reduce_context("audit", {"browser": "Firefox", "os": "Linux"}) == ({}, (), 2)


def test_every_safe_key_has_a_rule() -> None:
    assert RULES.keys() == CONTEXT_KEYS["frontend"] | CONTEXT_KEYS["backend"]


# -- what is not -----------------------------------------------------------------------------------------------------

TEXTS = [key for key in sorted(RULES) if not key.startswith("screen-") or key == "screen-orientation"]


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize(
    "value",
    [
        "ada@example.org",
        "ada%40example.org",
        "Ada Lovelace",
        "203.0.113.7",
        "10.0.0.12",
        "2001:db8::7",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "YWRhQGV4YW1wbGUub3Jn",
        "1784554662123",
        "https://example.org/?q=1",
        "alice-2.4.0",
        "x" * 5000,
        "١٢",
        "Acme\n",
        "\ud800",
    ],
)
def test_an_unknown_word_becomes_other_under_every_key(key: str, value: str) -> None:
    assert reduce_context("telemetry", {key: value}) == ({key: "other"}, (key,), 0)


@pytest.mark.parametrize("key", sorted(RULES))
@pytest.mark.parametrize("value", [-1, 1.5, True, None, ["Chrome"], {"nested": "Chrome"}, b"Chrome", 10**400])
def test_a_value_of_the_wrong_type_or_out_of_range_is_left_out_and_named(key: str, value: object) -> None:
    assert reduce_context("telemetry", {key: value}) == ({}, (key,), 0)


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("os", "Linux ada-laptop", "Linux"),
        ("os", "Windows 10 ada@example.org", "Windows 10"),
        ("os", "other Ada", "other"),
        ("os", "unknown 203.0.113.7", "unknown"),
        ("os", "android 14", "Android 14"),
        ("browser", "firefox", "Firefox"),
        ("browser-version", "3.0.4-1.fc10", "3.0.4"),
        ("browser-version", "10.0.0.12-acme", "other"),
        ("os-version", "10_15_7 (Ada)", "10_15_7"),
    ],
)
def test_of_a_known_word_with_an_unknown_one_the_known_one_is_left(key: str, value: str, kept: str) -> None:
    assert reduce_context("telemetry", {key: value}) == ({key: kept}, (key,), 0)
    assert reduce_context("telemetry", {key: kept}) == ({key: kept}, (), 0)


def test_equal_keys_of_different_types_are_not_confused() -> None:
    assert reduce_context("frontend", {"screen-width": 1}).context == {"screen-width": 1}
    assert reduce_context("frontend", {"screen-width": True}).context == {}
    assert reduce_context("frontend", {"screen-width": 1.0}).context == {}


# -- JSON, at the receiver -------------------------------------------------------------------------------------------


def test_json_in_which_nothing_changes_is_the_same_object() -> None:
    text = '{ "browser" : "Chrome", "screen-width": 5 }'
    assert reduce_json("telemetry:frontend", text) == (text, (), 0)
    for one in (text, text.replace("5", "6").replace("6", "5")):
        assert reduce_json("telemetry:frontend", one)[0] is one


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"browser":"Ada <ada@example.org>","x":1}', ('{"browser":"other"}', ("browser",), 1)),
        ('{"browser":"Ada","browser":"Chrome"}', ('{"browser":"Chrome"}', (), 1)),
        ('{"browser":["Chrome"],"os":{"a":{"b":1}}}', ("{}", ("browser", "os"), 0)),
        ('{"screen-width":1e3,"screen-height":NaN}', ("{}", ("screen-height", "screen-width"), 0)),
        ('{"browser":"Chrome","client-version":"2.4.0"}', ('{"browser":"Chrome"}', (), 1)),
        ("null", ("{}", (), 0)),
        ("[]", ("{}", (), 1)),
        ('"Ada"', ("{}", (), 1)),
        ("{", ("{}", (), 1)),
        ("[" * 100_000, ("{}", (), 1)),
        ('{"screen-width":' + "1" * 5000 + "}", ("{}", (), 1)),
    ],
)
def test_json_is_reduced_and_what_is_no_object_is_empty(text: str, left: tuple[str, tuple[str, ...], int]) -> None:
    assert reduce_json("telemetry:frontend", text) == left


# -- transit, at the sender ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            '{"~:browser":"Ada <ada@example.org>","~:event-origin":"~:workspace","~:screen-width":5,"~:email":"a@b.c"}',
            ('{"~:browser":"other","~:event-origin":"~:workspace","~:screen-width":5}', ("browser",), 1),
        ),
        ('{"~:event-origin":"~:Ada"}', ('{"~:event-origin":"other"}', ("event-origin",), 0)),
        ('{"~:screen-width":"~i99999999999999999999"}', ("{}", ("screen-width",), 0)),
        (
            '{"~:browser":"~m1784554662123","~:os":"~u7b528bf8-134c-814f-8005-048545218ba3"}',
            ("{}", ("browser", "os"), 0),
        ),
        ('{"~:browser":"Chrome","browser":"Ada"}', ('{"~:browser":"other"}', ("browser",), 1)),
        ('["^ ","~:browser","Ada"]', ('{"~:browser":"other"}', ("browser",), 0)),
        ('["^ ","~:browser","Chrome"]', ('{"~:browser":"Chrome"}', (), 0)),
        ('["^ ","~:browser","Ada","~:browser","Chrome"]', ('{"~:browser":"Chrome"}', (), 0)),
        ('{"~:browser":"Ada","~:browser":"Chrome"}', ('{"~:browser":"Chrome"}', (), 0)),
        ("null", ("{}", (), 0)),
    ],
)
def test_transit_of_penpot_is_reduced(text: str, left: tuple[str, tuple[str, ...], int]) -> None:
    assert reduce_transit("telemetry:frontend", text) == left


@pytest.mark.parametrize(
    "text",
    [
        '{"~:browser":"Chrome","~:event-origin":"~:workspace","~:screen-width":1920}',
        '{"browser":"Chrome"}',
        "{}",
        "[]",
        "5",
        '"Ada"',
        "{",
        "",
        '["~#date","x"]',
    ],
)
def test_transit_in_which_nothing_changes_and_what_is_no_map_is_the_same_object(text: str) -> None:
    assert reduce_transit("telemetry:frontend", text) == (text, (), 0)
    assert reduce_transit("telemetry:frontend", text)[0] is text
