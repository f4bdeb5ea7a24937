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
    "lease: renewed": Point("penpot_telemetry.lease:Lease.renew", "after"),
    "look: rows entered": Point("penpot_telemetry.reconcile:reconcile", "after"),
    "compose: rows read": Point("penpot_telemetry.compose:compose", "before"),
    "compose: batch written": Point("penpot_telemetry.outbox:insert_batch", "after"),
    "in the outbox, before the POST": Point("penpot_telemetry.send:_post_once", "before"),
    "answered, before acknowledging": Point("penpot_telemetry.acknowledgement:acknowledge", "before"),
    "acknowledge: receipt entered": Point("penpot_telemetry.outbox:acknowledge_batch", "after"),
    "acknowledge: rows deleted": Point("penpot_telemetry.audit_log:remove_rows", "after"),
    "acknowledged": Point("penpot_telemetry.acknowledgement:acknowledge", "after"),
    "gc: rows deleted": Point("penpot_telemetry.audit_log:drop_oldest", "after", "gc"),
    "gc: counted": Point("penpot_telemetry.account:add", "after", "gc"),
    "gc: done": Point("penpot_telemetry.gc:collect_garbage", "after", "gc"),
    "refused: batch ended": Point("penpot_telemetry.outbox:refuse_batch", "after", "poison"),
    "refused: parts wait": Point("penpot_telemetry.segments:push_segment", "after", "poison"),
    "refused: row set aside": Point("penpot_telemetry.dead_letters:add_rows", "after", "poison"),
    "ledgers: before": Point("penpot_telemetry.ledger:verify_new", "before"),
    "ledgers: compared": Point("penpot_telemetry.ledger:verify_new", "after"),
    "before a statement": Point("psycopg:Cursor.execute", "before"),
    "after a statement": Point("psycopg:Cursor.execute", "after"),
}

RECEIVER: Mapping[str, Point] = {
    "landfill: record torn": Point("os:pwrite", "torn"),
    "landfill: not synced": Point("receiver.storage.journal:Journal.sync", "before"),
    "landfill: synced": Point("receiver.storage.journal:Journal.sync", "after"),
    "rows in, before the commit": Point("receiver.intake.commit:commit", "before"),
    "committed, before the answer": Point("receiver.intake.commit:commit", "after"),
    "replay: begun": Point("receiver.lifecycle.recovery:replay_together", "before", "replay"),
    "replay: committed": Point("receiver.lifecycle.recovery:replay_together", "after", "replay"),
}

STATEMENTS = frozenset({"before a statement", "after a statement"})
"""Points that are passed some sixty times in a pass; the others once for each page."""

RANDOM_MOMENT = "a random moment"

SEEN_BY_PROXY = {
    "sender": ("POST under way, no answer yet", "answer there, not relayed"),
    "receiver": ("half a body in", "body in"),
}
"""What only the proxy sees: how far a request has come."""
