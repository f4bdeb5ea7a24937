"""`record` and `push-audit-events`: events in, rows of `audit_log` out."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING
from uuid import UUID

import click

from penpot_telemetry.cli.session import open_sender
from penpot_telemetry.cli.streams import InputFile
from penpot_telemetry.errors import InvalidEventError

if TYPE_CHECKING:
    from penpot_telemetry.events import AuditEvent
    from penpot_telemetry.store import RecordResult

LISTED_REFUSALS = 100


@click.command()
@click.argument("file", type=InputFile(), default="-")
@click.option("--origin", type=click.Choice(["frontend", "backend"]), default="frontend", show_default=True)
@click.option("--profile-id", type=click.UUID, help="The profile that frontend events belong to.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def record(file: IO[bytes], origin: str, profile_id: UUID | None, as_json: bool) -> None:
    """Anonymise events and store them. One JSON object a line, plain or gzipped, from FILE or stdin.

    Fields: name, type, and optionally timestamp, context, props (backend events also profile-id). What may not be
    kept is left behind before anything is stored. A line that cannot be recorded is named with its reason, and the
    others are kept; then the exit code is 1.

    \b
      echo '{"name":"navigate","type":"action"}' | penpot-telemetry record
      penpot-telemetry record events.jsonl.gz --origin backend
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from penpot_telemetry.json_lines import Lines  # noqa: PLC0415

    with open_sender() as (settings, conn):
        from penpot_telemetry import anonymise, pipeline  # noqa: PLC0415

        now = datetime.now(UTC)
        lines = Lines(file)

        def read(line: object) -> "AuditEvent":
            raw = _parse_line(line)
            if origin == "backend":
                return anonymise.read_backend_event(raw, now=now)
            return anonymise.read_frontend_event(raw, profile_id=profile_id, ip_addr=None, request_at=now)

        recorded = pipeline.record_raw(conn, _tell_progress(lines), read, settings)
    _print_recorded(recorded, [lines.number_of(refusal.index) for refusal in recorded.refused], "line", as_json)


def _print_recorded(recorded: "RecordResult", places: Sequence[int], kind: str, as_json: bool) -> None:
    """The result of recording, and the exit code; `places` are those of what was refused, counted from 1."""
    refused = list(zip(places, recorded.refused, strict=True))
    for place, refusal in refused[:LISTED_REFUSALS]:
        click.echo(f"{kind} {place}: {refusal.reason}", err=True)
    if (more := len(refused) - LISTED_REFUSALS) > 0:
        click.echo(f"... and {more:,} more", err=True)
    if as_json:
        listed = [{kind: place, "reason": refusal.reason} for place, refusal in refused]
        click.echo(json.dumps({"recorded": recorded.accepted, "refused": listed}))
    else:
        click.echo(f"recorded {recorded.accepted:,} events, refused {len(refused):,}")
    sys.exit(1 if refused else 0)


def _parse_line(line: object) -> object:
    from msgspec import DecodeError as NotJson  # noqa: PLC0415
    from msgspec.json import decode  # noqa: PLC0415

    if not isinstance(line, bytes):
        raise InvalidEventError("longer than a line may be")
    try:
        return decode(line)
    except (NotJson, UnicodeDecodeError, RecursionError):
        raise InvalidEventError("not a JSON object") from None


def _tell_progress(lines: Iterable[bytes | None]) -> Iterator[bytes | None]:
    """The lines, and how many there were so far on stderr when it takes long."""
    import time  # noqa: PLC0415

    again = time.monotonic() + 2.0
    overwrites = sys.stderr is not None and sys.stderr.isatty()
    for count, line in enumerate(lines, start=1):
        if count % 4096 == 0 and time.monotonic() > again:
            again = time.monotonic() + (0.5 if overwrites else 10.0)
            click.echo(f"read {count:,} lines" + ("\r" if overwrites else ""), err=True, nl=not overwrites)
        yield line


@click.command("push-audit-events", short_help="Record what Penpot's frontend posts.")
@click.argument("file", type=InputFile(), default="-")
@click.option(
    "--content-type",
    default="application/transit+json",
    show_default=True,
    help="How FILE is written: this, or application/json.",
)
@click.option("--profile-id", type=click.UUID, help="The profile of the session that posted it.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def push_audit_events(file: IO[bytes], content_type: str, profile_id: UUID | None, as_json: bool) -> None:
    """Record the body of a `push-audit-events` request, as Penpot's frontend writes it, from FILE or stdin.

    An event that cannot be recorded is named by its place, and the others are kept; then the exit code is 1.

    \b
      penpot-telemetry push-audit-events body.transit.json
      penpot-telemetry push-audit-events body.json --content-type application/json
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from penpot_telemetry.push import BODY_BYTES, read_push_body  # noqa: PLC0415

    events = read_push_body(file.read(BODY_BYTES + 1), content_type)
    with open_sender() as (settings, conn):
        from penpot_telemetry import pipeline  # noqa: PLC0415

        recorded = pipeline.push_audit_events(
            conn, events, profile_id=profile_id, ip_addr=None, request_at=datetime.now(UTC), settings=settings
        )
    _print_recorded(recorded, [refusal.index + 1 for refusal in recorded.refused], "event", as_json)
