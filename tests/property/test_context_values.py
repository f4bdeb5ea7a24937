"""Whatever stands under a safe key: nothing that a person typed gets through, and both ends come to one result."""

import json
import re
from pathlib import Path

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penpot_telemetry import vocabulary
from penpot_telemetry.context_values import RULES, reduce_context, reduce_json, reduce_transit
from penpot_telemetry.events import CONTEXT_KEYS
from penpot_telemetry.user_agents import MOST_TEXT, reduce_user_agent
from penpot_telemetry.wire import transit
from penpot_telemetry.wire.fressian.values import Keyword

DATA = Path(__file__).parent.parent / "data"
PUBLIC = [row[0] for rows in json.loads((DATA / "user_agents.json").read_text())["agents"].values() for row in rows]
PIECES = sorted({piece for agent in PUBLIC for piece in re.findall(r"[()]|[^\s();]+|; | ", agent)})
VERSIONS = json.loads((DATA / "ua_parser_values.json").read_text())["versions"]
PARSER_WORDS = sorted({word for key in ("browser", "os") for word in VERSIONS["1.0.37"][key]["named"]})
KEYS = sorted(RULES)
SOURCES = sorted(CONTEXT_KEYS)
PROGRAM_WORDS = {"initiator", "event-origin", "event-namespace", "event-symbol"}
"""Keys with a grammar and no list: a small word passes, so a host name may; a capital, `@` or an address does not."""

PATTERN_LETTERS = ("windows", "nt", "cpu", "iphone", "os", "mac", "x", "intel", "ppc", "cros", "linux", "rv", "on", "e")
"""Words of the patterns for comments, and the letter of `15E148`."""

KNOWN_LETTERS = {
    run.casefold()
    for words in vars(vocabulary).values()
    if isinstance(words, frozenset | dict)
    for word in words
    for run in re.findall(r"[A-Za-z]+", word)
} | {*PATTERN_LETTERS}

names = st.from_regex(r"[A-Z][a-z]{1,3}[qxzj][a-z]{2,6}( [A-Z][a-z]{1,3}[qxzj][a-z]{2,6})?", fullmatch=True)
mails = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8})?@[a-z]{3,12}\.(org|com|example)", fullmatch=True)
addresses = st.tuples(*[st.integers(1, 255)] * 4).map(lambda four: ".".join(map(str, four)))
hosts = st.from_regex(r"[a-z]{2,6}[qxzj][a-z]{2,6}\.(lan|internal|example\.org)", fullmatch=True)

texts = st.one_of(
    st.text(max_size=80),
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join),
    st.sampled_from(PUBLIC),
    st.sampled_from(PARSER_WORDS),
    st.sampled_from(["Chrome/", "Mozilla/5.0 (", "Linux ", "2.4.0-", "app.", "en_", "workspace:", "138.0.7204.97", ""]),
)
numbers = st.one_of(st.integers(-5, 200_000), st.integers(), st.floats(), st.booleans(), st.none())
words = st.from_regex(r"[a-z]{1,9}(-[a-z]{1,9})?", fullmatch=True)
contexts = st.dictionaries(st.one_of(st.sampled_from(KEYS), words), st.one_of(texts, numbers), max_size=8)
storable = st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.none(), words.map(Keyword))
rows = st.dictionaries(st.one_of(st.sampled_from(KEYS), words), storable, max_size=8)


@settings(max_examples=400)
@given(st.sampled_from(KEYS), texts, texts, st.data())
def test_nothing_that_a_person_typed_is_left_of_any_value(
    key: str, before: str, after: str, data: st.DataObject
) -> None:
    kinds = [names, mails, addresses] if key in PROGRAM_WORDS else [names, mails, addresses, hosts]
    planted = data.draw(st.one_of(kinds))
    glue = data.draw(st.sampled_from(["", " ", "; ", "/", "-", "("]))
    value = before + glue + planted + glue + after
    for source in SOURCES:
        assert planted not in str(reduce_context(source, {key: value, value: value, "x": planted}))
        assert planted not in str(reduce_json(source, json.dumps({key: value, planted: 1})))
        assert planted not in str(reduce_transit(source, transit.dumps_verbose({key: value, planted: 1})))


@settings(max_examples=400)
@given(texts, texts)
@example("Chrome/1 " * 60, "(Android 1; CrOS x86_64 1)" * 60)
@example("(" + "Android;" * 40, ")")
def test_a_reduced_user_agent_is_made_of_known_words_is_short_and_stays_so(first: str, second: str) -> None:
    left = reduce_user_agent(first + second)
    assert {run.casefold() for run in re.findall(r"[A-Za-z]+", left)} <= KNOWN_LETTERS
    assert left.isascii()
    assert not re.search(r"\d{5}", left.replace("20100101", "").replace("14541.0.0", ""))
    assert 0 < len(left) <= MOST_TEXT
    assert reduce_user_agent(left) == left


@settings(max_examples=300)
@given(st.sampled_from(SOURCES), contexts)
def test_the_rule_changes_nothing_of_what_it_left(source: str, context: dict[str, object]) -> None:
    once = reduce_context(source, context)
    assert reduce_context(source, once.context) == (once.context, (), 0)
    assert set(once.context) | set(once.changed) == set(context) & CONTEXT_KEYS[source]
    assert once.dropped == len(set(context) - CONTEXT_KEYS[source])


@settings(max_examples=300)
@given(st.sampled_from(SOURCES), rows)
def test_the_receiver_changes_nothing_of_what_the_sender_left(
    source: str, row: dict[str, transit.Scalar | Keyword]
) -> None:
    left, changed, dropped = reduce_transit(source, transit.dumps_verbose(row))
    assert reduce_transit(source, left) == (left, (), 0)
    kept = transit.loads_verbose(left)
    assert isinstance(kept, dict)
    plain = {str(key): repr(value) if isinstance(value, Keyword) else value for key, value in kept.items()}
    sent = msgspec.json.encode(plain).decode()
    assert reduce_json(source, sent) == (sent, (), 0)
    at_once = reduce_context(source, row)
    assert (plain, changed, dropped) == (dict(at_once.context), at_once.changed, at_once.dropped)


@given(st.sampled_from(SOURCES), st.text(max_size=60))
def test_any_text_is_read_without_an_error(source: str, text: str) -> None:
    assert isinstance(msgspec.json.decode(reduce_json(source, text)[0]), dict)
    reduce_transit(source, text)
