"""Bodies of `push-audit-events` as Penpot's frontend writes them, by hand from its sources: `persist-events` and the
main loop of `app.main.data.event`, written by `app.util.http/transit-data` as verbose transit.
"""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from penpot_telemetry import anonymise
from penpot_telemetry.errors import DecodeError, InvalidEventError
from penpot_telemetry.push import BODY_BYTES, read_push_body

TRANSIT = "application/transit+json"
PROFILE = UUID("c7ce0794-0992-8105-8004-38e630f40f6d")
REQUEST_AT = datetime(2026, 7, 20, 12, 0, 5, tzinfo=UTC)
MOMENT = datetime(2026, 7, 20, 12, 0, 0, 250_000, tzinfo=UTC)

FRONTEND_BODY = b"""
{"~:events":[
 {"~:type":"action",
  "~:name":"navigate",
  "~:context":{"~:version":"2.11.0-RC1","~:locale":"es","~:browser":"Firefox","~:browser-version":"128.0",
               "~:engine":"Gecko","~:engine-version":"128.0","~:os":"Ubuntu ","~:device-type":"unknown",
               "~:screen-width":1920,"~:screen-height":1080,"~:screen-color-depth":24,
               "~:screen-orientation":"landscape-primary","~:device-arch":"amd64",
               "~:event-origin":"~:dashboard","~:event-namespace":"app.main.router","~:event-symbol":"navigated",
               "~:session":"~m1784548800000","~:session-id":"~u0f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f"},
  "~:props":{"~:route":"~:workspace","~:team-id":"~uc7ce0794-0992-8105-8004-38e630f40f6e","~:ids":["a","b"],
             "~:shapes":"~:placeholder/map","~:tags":{"~#set":["x"]},"~:zoom":1.5},
  "~:profile-id":"~uc7ce0794-0992-8105-8004-38e630f40f6d",
  "~:timestamp":"~m1784548800250"},
 {"~:type":"trigger","~:name":"performance-long-task","~:context":{"~:file-stats":{"~:total-shapes":12}},
  "~:props":{"~:duration":1200.25},"~:profile-id":"~uc7ce0794-0992-8105-8004-38e630f40f6d",
  "~:timestamp":{"~#m":"1784548800250"}},
 {"~:type":"identify","~:name":"signin","~:props":{},"~:timestamp":"~t2026-07-20T12:00:00.250Z"}
]}
"""

COMPACT_BODY = b"""
["^ ","~:events",[["^ ","~:type","action","~:name","navigate","~:timestamp","~m1784548800250","~:props",["^ "],
                   "~:context",["^ ","~:browser","Firefox"]],
                  ["^ ","^1","action","^2","logout","^3","~m1784548800250","^4",["^ "],"^5",["^ ","^6","Chrome"]]]]
"""

JSON_BODY = json.dumps(
    {
        "events": [
            {
                "type": "action",
                "name": "navigate",
                "timestamp": "2026-07-20T12:00:00.250Z",
                "props": {"teamId": "x"},
                "context": {"browserVersion": "128.0", "event-origin": "dashboard", "screen_width": 1920, "a/B": 1},
            },
            {"type": "action", "name": "logout", "timestamp": 1_784_548_800_250, "props": {}},
        ]
    }
).encode()


def recorded(event: object) -> Any:
    return anonymise.read_frontend_event(event, profile_id=PROFILE, ip_addr=None, request_at=REQUEST_AT)


def test_what_penpot_s_frontend_posts_is_read_with_plain_names_and_instants() -> None:
    navigate, slow, signin = (recorded(event) for event in read_push_body(FRONTEND_BODY, TRANSIT))
    assert [(event.name, event.type) for event in (navigate, slow, signin)] == [
        ("navigate", "action"),
        ("performance-long-task", "trigger"),
        ("signin", "identify"),
    ]
    assert {event.tracked_at for event in (navigate, slow, signin)} == {MOMENT}
    assert navigate.context["event-origin"] == "dashboard"
    assert navigate.context["screen-width"] == 1920
    assert navigate.context["session"] == datetime(2026, 7, 20, 12, tzinfo=UTC)
    assert navigate.context["session-id"] == UUID("0f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f")
    assert navigate.props == {
        "route": "workspace",
        "team-id": UUID("c7ce0794-0992-8105-8004-38e630f40f6e"),
        "ids": ["a", "b"],
        "shapes": "placeholder/map",
        "tags": ["x"],
        "zoom": 1.5,
    }
    assert slow.context == {"file-stats": {"total-shapes": 12}}


def test_compact_transit_is_read_too() -> None:
    events = [recorded(event) for event in read_push_body(COMPACT_BODY, TRANSIT)]
    assert [(event.name, event.context, event.tracked_at) for event in events] == [
        ("navigate", {"browser": "Firefox"}, MOMENT),
        ("logout", {"browser": "Chrome"}, MOMENT),
    ]


def test_plain_json_is_read_with_the_keys_that_penpot_makes_of_it() -> None:
    navigate, logout = (recorded(event) for event in read_push_body(JSON_BODY, "application/json"))
    assert navigate.context == {"browser-version": "128.0", "event-origin": "dashboard", "screen-width": 1920, "a/B": 1}
    assert navigate.props == {"team-id": "x"}
    assert (navigate.tracked_at, logout.tracked_at) == (MOMENT, MOMENT)


@pytest.mark.parametrize("content_type", [f"{TRANSIT}; charset=utf-8", "Application/Transit+JSON", f" {TRANSIT} "])
def test_a_content_type_may_have_parameters(content_type: str) -> None:
    assert len(read_push_body(FRONTEND_BODY, content_type)) == 3


def test_a_body_without_events_has_none() -> None:
    assert read_push_body(b'{"~:events":[]}', TRANSIT) == []
    assert read_push_body(b'\xef\xbb\xbf{"events":[]}', "application/json") == []


def test_an_event_that_is_no_map_is_passed_on_and_refused_alone() -> None:
    body = b'{"~:events":["canary",{"~:name":"navigate","~:type":"action"}]}'
    first, second = read_push_body(body, TRANSIT)
    with pytest.raises(InvalidEventError, match="should be a map"):
        recorded(first)
    assert recorded(second).name == "navigate"


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "bad",
    [
        b'{"~:name":"navigate","~:type":"action","~:timestamp":"~m99999999999999999"}',
        b'{"~:name":"navigate","~:type":"action","~:timestamp":"~mcanary"}',
        b'{"~:name":"navigate","~:type":"action","~:timestamp":"canary"}',
        b'{"~:name":"navigate","~:type":"action","~:props":{"~:id":"~ucanary-000-0000-0000-000000000000-000"}}',
        b'{"~:name":"navigate","~:type":"action","~:props":["canary"]}',
        b"null",
    ],
)
def test_one_bad_event_spoils_no_other(bad: bytes) -> None:
    good = b'{"~:name":"navigate","~:type":"action"}'
    first, second, third = read_push_body(b'{"~:events":[' + good + b"," + bad + b"," + good + b"]}", TRANSIT)
    assert (recorded(first).name, recorded(third).name) == ("navigate", "navigate")
    with pytest.raises(InvalidEventError) as refusal:
        recorded(second)
    assert "canary" not in str(refusal.value)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", TRANSIT, "not-json"),
        (b"canary", TRANSIT, "not-json"),
        (b"\xff\xfe", TRANSIT, "not-json"),
        (b'["^ ","~:events",["~mcanary"]]', TRANSIT, "not-json"),
        (b'{"~:events":' + DEEP + b"}", TRANSIT, "not-json"),
        (b'{"events":' + DEEP + b"}", "application/json", "not-json"),
        (b"[]", TRANSIT, "wrong-shape"),
        (b"null", "application/json", "wrong-shape"),
        (b'{"~:events":{}}', TRANSIT, "wrong-shape"),
        (b'{"events":"canary"}', "application/json", "wrong-shape"),
        (b'{"canary":[]}', "application/json", "wrong-shape"),
        (b'{"events":[]}', TRANSIT, "wrong-shape"),
        (b'{"~:events":[]}', "text/canary", "wrong-shape"),
        (b'{"~:events":[]}', "", "wrong-shape"),
        (b" " * (BODY_BYTES + 1), TRANSIT, "too-large"),
    ],
)
def test_what_is_no_such_body_is_refused_in_one_line(body: bytes, content_type: str, reason: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        read_push_body(body, content_type)
    assert refusal.value.reason == reason
    assert "canary" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
