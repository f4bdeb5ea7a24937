"""`penpot-telemetry`: arguments in, one call, a table or JSON out. Nothing slow is imported before it is needed."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING
from uuid import UUID

import click

from penpot_telemetry.errors import ConfigError, DecodeError, InvalidEventError, TelemetryError

if TYPE_CHECKING:
    from psycopg import Connection

    from penpot_telemetry.config import Settings
    from penpot_telemetry.events import AuditEvent

NAME = "penpot-telemetry"
LISTED_REFUSALS = 100


def main(args: Sequence[str] | None = None, prog_name: str = NAME) -> None:
    """The console script: an expected failure is one line on stderr and an exit code, never a traceback."""
    try:
        commands.main(args, prog_name=prog_name)
    except TelemetryError as error:
        from penpot_telemetry.run import exit_code  # noqa: PLC0415

        sys.exit(exit_code(error))
    except OSError as error:
        click.echo(f"{error.filename or 'the system'}: {error.strerror or type(error).__name__}", err=True)
        sys.exit(1)


def read_settings(**overrides: str | None) -> "Settings":
    """Settings from the environment; an override that is given comes before it."""
    from penpot_telemetry import config  # noqa: PLC0415

    given = {name: value for name, value in overrides.items() if value is not None}
    return config.read_settings({**os.environ, **given}, root=hasattr(os, "geteuid") and os.geteuid() == 0)


@contextmanager
def open_road() -> "Iterator[tuple[Settings, Connection]]":
    """The settings and a connection; with telemetry off it says so, opens nothing and leaves with success."""
    settings = read_settings()
    if not settings.active:
        click.echo(settings.inactive_reason, err=True)
        sys.exit(0)
    from penpot_telemetry import pipeline, store  # noqa: PLC0415

    with pipeline.open_database(settings) as conn, store.database_errors():
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
@click.option("--demo", is_flag=True, help="The whole road on simulated Penpots, in under a minute.")
@click.option("--uri", metavar="URI", help="Where to send, instead of PENPOT_TELEMETRY_URI.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a pass on stdout.")
def run(every: str | None, dry_run: bool, demo: bool, uri: str | None, as_json: bool) -> None:
    """Ship what waits, then collect garbage: one pass.

    \b
      penpot-telemetry run --dry-run
      penpot-telemetry run --uri http://127.0.0.1:6070/
      penpot-telemetry run --every 3h
    """
    from penpot_telemetry import run as passes  # noqa: PLC0415

    if demo:
        from penpot_telemetry.demo import run_demo  # noqa: PLC0415

        sys.exit(run_demo())
    settings = read_settings(PENPOT_TELEMETRY_URI=uri)
    if dry_run:
        sys.exit(passes.dry_run(settings, as_json=as_json))
    if every is not None:
        sys.exit(passes.run_every(settings, passes.parse_interval(every), as_json=as_json))
    sys.exit(passes.run_once(settings, as_json=as_json))


# -- record ----------------------------------------------------------------------------------------------------------


@commands.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--origin", type=click.Choice(["frontend", "backend"]), default="frontend", show_default=True)
@click.option("--profile-id", type=click.UUID, help="The profile that frontend events belong to.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def record(file: IO[bytes], origin: str, profile_id: UUID | None, as_json: bool) -> None:
    """Anonymise events and store them. One JSON object a line, from FILE or stdin.

    Fields: name, type, and optionally timestamp, context, props (backend events also profile-id). What may not be
    kept is left behind before anything is stored. A line that cannot be recorded is named with its reason, and the
    others are kept; then the exit code is 1.

    \b
      echo '{"name":"navigate","type":"action"}' | penpot-telemetry record
      penpot-telemetry record events.jsonl --origin backend
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    with open_road() as (settings, conn):
        from penpot_telemetry import anonymise, pipeline  # noqa: PLC0415

        now = datetime.now(UTC)

        def read(line: object) -> "AuditEvent":
            raw = _parse_line(line)
            if origin == "backend":
                return anonymise.read_backend_event(raw, now=now)
            return anonymise.read_frontend_event(raw, profile_id=profile_id, ip_addr=None, request_at=now)

        recorded = pipeline.record_raw(conn, _count_lines(file), read, settings)
    for refusal in recorded.refused[:LISTED_REFUSALS]:
        click.echo(f"line {refusal.index + 1}: {refusal.reason}", err=True)
    if (more := len(recorded.refused) - LISTED_REFUSALS) > 0:
        click.echo(f"... and {more:,} more", err=True)
    if as_json:
        refused = [{"line": refusal.index + 1, "reason": refusal.reason} for refusal in recorded.refused]
        click.echo(json.dumps({"recorded": recorded.accepted, "refused": refused}))
    else:
        click.echo(f"recorded {recorded.accepted:,} events, refused {len(recorded.refused):,}")
    sys.exit(1 if recorded.refused else 0)


def _parse_line(line: object) -> object:
    from msgspec import DecodeError as NotJson  # noqa: PLC0415
    from msgspec.json import decode  # noqa: PLC0415

    try:
        return decode(line if isinstance(line, bytes) else b"")
    except (NotJson, UnicodeDecodeError, RecursionError):
        raise InvalidEventError("not a JSON object") from None


def _count_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, and how many there were so far on stderr when it takes long."""
    import time  # noqa: PLC0415

    again = time.monotonic() + 2.0
    for count, line in enumerate(file, start=1):
        if count % 4096 == 0 and time.monotonic() > again:
            again = time.monotonic() + (0.5 if sys.stderr.isatty() else 10.0)
            click.echo(f"read {count:,} lines", err=True, nl=not sys.stderr.isatty())
            if sys.stderr.isatty():
                click.echo("\r", err=True, nl=False)
        yield line


# -- status ----------------------------------------------------------------------------------------------------------


@commands.command(short_help="What waits, and whether the account adds up.")
@click.option("--check", is_flag=True, help="Exit with 1 when the account does not add up.")
@click.option("--accept-missing", is_flag=True, help="Count rows that vanished by another hand as dropped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def status(check: bool, accept_missing: bool, as_json: bool) -> None:
    """What waits, by day and source, and whether the account adds up.

    Since the beginning: recorded = shipped + dropped + quarantined + pending. Rows of audit_log that somebody else
    deleted are missing in it, and --check fails, until somebody has looked and says --accept-missing.

    \b
      penpot-telemetry status
      penpot-telemetry status --check --json
    """
    with open_road() as (settings, conn):
        from penpot_telemetry import pipeline  # noqa: PLC0415

        if accept_missing:
            click.echo(f"{pipeline.accept_missing(conn):,} missing rows count as dropped from now on", err=True)
        found = pipeline.read_status(conn, settings)
    state = found.state
    account = {
        "recorded": found.recorded,
        "shipped": state.shipped,
        "dropped": state.dropped,
        "quarantined": state.quarantined,
        "pending": found.pending,
    }
    more = {
        "missing": found.missing,
        "written-by-penpot": state.adopted + found.unseen,
        "frozen": found.frozen,
        "split-off": found.waiting,
        "room": found.room,
    }
    oldest = str(found.days[0].day) if found.days else None
    key = _show_key(settings.signing_key) if settings.signing_key else None
    if as_json:
        days = [{"day": str(day.day), "source": day.source, "rows": day.rows} for day in found.days]
        head = {"instance-id": str(state.instance_id) if state.instance_id else None, "adds-up": found.adds_up}
        click.echo(json.dumps({**head, **account, **more, "oldest": oldest, "days": days, "signing-key": key}))
    else:
        _print_table("waiting", ("day", "source", "rows"), [(d.day, d.source, f"{d.rows:,}") for d in found.days])
        click.echo(f"instance     {state.instance_id or '(chosen at the first pass)'}")
        click.echo(f"oldest       {oldest or '-'}")
        click.echo(f"signs with   {key or '(nothing: see keygen)'}")
        click.echo(f"room         {found.room:,} of {settings.cap_rows:,} rows until gc drops the oldest")
        click.echo(f"frozen       {found.frozen:,} events, in the batch that is being sent")
        click.echo(f"account      recorded {account['recorded']:,} = " + _sum(account))
        verdict = "adds up"
        if not found.adds_up:
            verdict = f"DOES NOT ADD UP: {found.missing:,} rows vanished by another hand (see --accept-missing)"
        click.echo(f"             {verdict}")
    sys.exit(1 if check and not found.adds_up else 0)


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
    with open_road() as (settings, conn):
        from penpot_telemetry import pipeline  # noqa: PLC0415

        page = pipeline.preview_page(conn, settings)
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
@click.argument("file", type=click.File("rb"), default="-")
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
    with open_road() as (_, conn):
        from penpot_telemetry import outbox  # noqa: PLC0415

        entries = list(outbox.read_ledger(conn))
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
        told = (e.outcome, str(e.batch_id)[:8], e.digest[7:15], e.receipt.get("status", "-"))
        rows.append((e.seq, f"{e.settled_at:%Y-%m-%d %H:%M}", f"{e.events:,}", f"{e.bytes:,}", *told))
    if frozen is not None:
        told = ("unanswered", str(frozen.batch_id)[:8], frozen.digest[7:15], "-")
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
    from penpot_telemetry.config import parse_endpoint, read_secret  # noqa: PLC0415

    endpoint = parse_endpoint(url, read_secret(os.environ, "PENPOT_TELEMETRY_TOKEN"), "URL")
    with open_road() as (settings, conn):
        from penpot_telemetry import pipeline  # noqa: PLC0415

        agreed, mismatches = pipeline.verify_ledger(conn, endpoint, settings)
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
    with open_road() as (_, conn):
        from penpot_telemetry import outbox  # noqa: PLC0415

        rows = outbox.read_quarantine(conn)
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
    with open_road() as (_, conn):
        from penpot_telemetry import pipeline  # noqa: PLC0415

        click.echo(f"put back {pipeline.retry_quarantined(conn, chosen):,} rows")


@quarantine.command()
@click.argument("ids", nargs=-1, type=click.UUID)
@click.option("--all", "everything", is_flag=True, help="Every row.")
def drop(ids: tuple[UUID, ...], everything: bool) -> None:
    """Delete rows for good. They count as dropped."""
    chosen = _choose(ids, everything)
    with open_road() as (_, conn):
        from penpot_telemetry import pipeline  # noqa: PLC0415

        click.echo(f"dropped {pipeline.drop_quarantined(conn, chosen):,} rows")


def _choose(ids: tuple[UUID, ...], everything: bool) -> Sequence[UUID] | None:
    if bool(ids) == everything:
        raise ConfigError("name the rows by their ids, or say --all")
    return None if everything else ids


# -- tables ----------------------------------------------------------------------------------------------------------


def _print_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table that fits the terminal; elsewhere one plain line a row."""
    if not rows:
        click.echo(f"{title}: nothing")
        return
    if not sys.stdout.isatty():
        click.echo("\t".join(heads))
        for row in rows:
            click.echo("\t".join(map(str, row)))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head in {"rows", "events", "bytes", "seq"} else "left")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    Console().print(table)
