"""Where a process may be killed: names for people, and the real functions beside whose calls it happens.

A point is a function of the sender or the receiver and a side of it. Nothing in either package knows of this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Point:
    """`target` is `module:function` or `module:Class.method`; `group` says in which schedules it can be reached."""

    target: str
    when: Literal["before", "after", "torn"]
    group: Literal["always", "gc", "poison", "replay"] = "always"


SENDER: Mapping[str, Point] = {
    "freeze: rows taken": Point("penpot_telemetry.wire.batch:encode_events", "before"),
    "freeze: page written": Point("penpot_telemetry.outbox:insert_page", "after"),
    "frozen, before the POST": Point("penpot_telemetry.send:_post_once", "before"),
    "answered, before settling": Point("penpot_telemetry.pipeline:settle_page", "before"),
    "settle: receipt entered": Point("penpot_telemetry.outbox:settle_page", "after"),
    "settle: rows deleted": Point("penpot_telemetry.store:delete_rows", "after"),
    "settled": Point("penpot_telemetry.pipeline:settle_page", "after"),
    "gc: rows deleted": Point("penpot_telemetry.store:delete_oldest", "after", "gc"),
    "gc: counted": Point("penpot_telemetry.outbox:add", "after", "gc"),
    "gc: done": Point("penpot_telemetry.pipeline:collect_garbage", "after", "gc"),
    "refused: page ended": Point("penpot_telemetry.outbox:refuse_page", "after", "poison"),
    "refused: halves wait": Point("penpot_telemetry.outbox:push_halves", "after", "poison"),
    "refused: row taken": Point("penpot_telemetry.store:take_rows", "after", "poison"),
    "account added up": Point("penpot_telemetry.outbox:add_up", "after"),
    "before a statement": Point("psycopg:Cursor.execute", "before"),
    "after a statement": Point("psycopg:Cursor.execute", "after"),
}

RECEIVER: Mapping[str, Point] = {
    "landfill: record torn": Point("os:pwrite", "torn"),
    "landfill: not synced": Point("receiver.landfill:Landfill.sync", "before"),
    "landfill: synced": Point("receiver.landfill:Landfill.sync", "after"),
    "rows in, before the commit": Point("receiver.pipeline:commit", "before"),
    "committed, before the answer": Point("receiver.pipeline:commit", "after"),
    "replay: begun": Point("receiver.pipeline:replay_together", "before", "replay"),
    "replay: committed": Point("receiver.pipeline:replay_together", "after", "replay"),
}

STATEMENTS = frozenset({"before a statement", "after a statement"})
"""Points that are passed some forty times in a pass; the others once for each page."""

RANDOM_MOMENT = "a random moment"

SEEN_BY_PROXY = {
    "sender": ("POST under way, no answer yet", "answer there, not relayed"),
    "receiver": ("half a body in", "body in"),
}
"""What only the proxy sees: how far a request has come."""
