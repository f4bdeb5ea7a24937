"""A batch in, its events out as JSON lines: what `preview` and `decode` print."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from penpot_telemetry.wire import batch, payload


def decode_lines(body: bytes) -> Iterator[str]:
    """The events of a payload, a blob's text or a blob's bytes, each as a JSON object."""
    if body.startswith(b"\0"):
        events = urlsafe_b64encode(body).decode()
    elif body.lstrip().startswith(b"{"):
        found = payload.parse(body)
        if isinstance(found, payload.LegacyReport):
            yield json.dumps({"stats": found.stats, "subscriptions": found.subscriptions})
            return
        events = found.events
    else:
        events = body.decode("ascii", errors="replace").strip()
    columns = batch.decode_columns(events)
    for name, type_, source, tracked_at, profile_id, props, context in zip(
        columns.name,
        columns.type,
        columns.source,
        columns.tracked_at,
        columns.profile_id,
        columns.props,
        columns.context,
        strict=True,
    ):
        head = {
            "name": name,
            "type": type_,
            "source": source,
            "tracked-at": datetime.fromtimestamp(tracked_at / 1000, UTC).isoformat().replace("+00:00", "Z"),
            "profile-id": str(UUID(bytes=profile_id)) if profile_id else None,
        }
        yield f'{json.dumps(head)[:-1]}, "props": {props}, "context": {context}}}'
