"""`instance-id`, `grants` and `keygen`: what is decided once, before the first batch."""

import json
import os
from uuid import UUID, uuid4

import click

from penpot_telemetry.cli.session import open_sender
from penpot_telemetry.errors import ConfigError


@click.command("instance-id", short_help="The id that batches carry: show it, change it.")
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


@click.command(short_help="The SQL that gives a role the rights of a sender.")
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
        click.echo("-- Optional, as the owner of audit_log: without it each pass reads the whole table.")
        click.echo(f"{INDEX};")


@click.command(short_help="Make the key that signs batches.")
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
    click.echo(show_public_key(signature.read_key(text)))


def show_public_key(key: bytes) -> str:
    """The public half of a private key, as the receiver shows it: base64."""
    from base64 import b64encode  # noqa: PLC0415

    from penpot_telemetry.wire import signature  # noqa: PLC0415

    return b64encode(signature.public_half(key)).decode()
