"""The receiver's commands, by name. The module of a command is imported when it runs, so `--help` costs nothing."""

from importlib import import_module

import click

from receiver.cli.options import Commands, Usage, place_options, url_option
from receiver.server.secrets import read_secret
from receiver.server.settings import read_settings
from receiver.storage.connection import prepare
from receiver.storage.inserts import unpin_key
from receiver.storage.paths import Places, address_file, places_beside, snapshot_of
from receiver.storage.store import Store

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

EVERY = 2**63 - 1
WIDE = 120
NUMBERS = {"days", "batches", "events", "missing", "lost"}

UNAUTHORIZED = 401
LONG_SECONDS = 3600.0


class LazyCommands(Commands):
    """A group that imports a command when it is run, not when its line is shown."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in order."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; None when there is none."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"receiver.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without their modules."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyCommands)
def main() -> None:
    """Receive telemetry batches into a DuckDB file. Without a command: serve.

    `status`, `check` and `snapshot` open the warehouse themselves while no server has it, and ask the server that has
    it otherwise; so does `erase`. `ask` and `export` read the snapshot then. The other commands that change something
    need the server stopped.
    """


@main.command(cls=Usage)
@place_options
@click.option("--host", default="127.0.0.1", envvar="RECEIVER_HOST", show_envvar=True, show_default=True)
@click.option(
    "--port",
    default=6070,
    type=click.IntRange(0, 65535),
    envvar="RECEIVER_PORT",
    show_envvar=True,
    show_default=True,
    help="0: any free one; the line `listening on URL` says which.",
)
def serve(warehouse: Path, landfill: Path | None, quarantine: Path | None, host: str, port: int) -> None:
    """Take batches by HTTP until SIGTERM, then finish what was accepted and exit 0."""
    from receiver.server.serve import serve as run_server  # noqa: PLC0415  the other commands start without a web server

    os.umask(0o077)
    settings = read_settings(places_beside(warehouse, landfill, quarantine), host, port, os.environ)
    run_server(settings, lambda url: click.echo(f"listening on {url}"))


@main.command()
@place_options
@url_option
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def status(warehouse: Path, landfill: Path | None, quarantine: Path | None, url: str | None, as_json: bool) -> None:
    """What came, what became of it, what senders lost, and whether the sums agree."""
    found = find_account(places_beside(warehouse, landfill, quarantine), url)
    click.echo(msgspec.json.encode(found).decode() if as_json else describe(found))


@main.command()
@place_options
@url_option
def check(warehouse: Path, landfill: Path | None, quarantine: Path | None, url: str | None) -> None:
    """Compare the sums and read every record of the landfill; exit 1 when something does not agree or is damaged.

    What is damaged is named, with the file beside it that keeps it. Once you have looked at that file, rename its
    ending to `.accepted`, and it is no longer reported.
    """
    places = read_settings(places_beside(warehouse, landfill, quarantine), "", 0, os.environ).places
    found = find_account(places, url)
    if places.landfill.is_dir():
        found = msgspec.structs.replace(found, checks=[*found.checks, *check_journal(places)])
    click.echo(describe_checks(found))
    if not found.adds_up:
        sys.exit(1)


@main.command()
@place_options
def digest(warehouse: Path, landfill: Path | None, quarantine: Path | None) -> None:
    """One digest over all events, batches and reports: equal before and after a rebuild."""
    with closing(open_to_read(warehouse)) as con:
        click.echo(account.content_digest(con))


@main.command(name="snapshot")
@place_options
@click.option("--to", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Write it here. [default: beside the warehouse, where readers look for it]")  # fmt: skip
def take_snapshot(warehouse: Path, landfill: Path | None, quarantine: Path | None, to: Path | None) -> None:
    """Publish a copy of the warehouse that others read while a server writes.

    The copy takes the place of the one before in one step. While a server has the warehouse, the server makes it; it
    also does so by itself, see RECEIVER_SNAPSHOT_MINUTES.
    """
    os.umask(0o077)
    target = to or snapshot_of(warehouse)
    try:
        con = open_to_read(warehouse)
    except InUseError:
        made = ask_server(find_url(warehouse), "/snapshot", snapshot.Snapshot, "POST", LONG_SECONDS)
        if to is not None:
            snapshot.copy_snapshot(snapshot_of(warehouse), to)
    else:
        with closing(con):
            made = snapshot.publish(warehouse, target)
    fresh = "empty" if made.fresh_at is None else f"fresh at {made.fresh_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"{target}: {made.holds.events:,} events, {made.bytes / MIB:,.1f} MiB, {fresh}")


day_type = click.DateTime(["%Y-%m-%d"])


@main.command(name="export")
@click.option("--warehouse", type=click.Path(path_type=Path, dir_okay=False), default=Path("telemetry.duckdb"),
              envvar="RECEIVER_WAREHOUSE", show_envvar=True, show_default=True,
              help="The DuckDB file. While a server has it, its snapshot is exported.")  # fmt: skip
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER",
              help="A folder that is empty, not there yet, or of an earlier export.")  # fmt: skip
@click.option("--table", type=click.Choice(list(export.TABLES)), default="events", show_default=True)
@click.option("--first-day", type=day_type, metavar="YYYY-MM-DD", help="The first day, inclusive. [default: all]")
@click.option("--last-day", type=day_type, metavar="YYYY-MM-DD", help="The last day, inclusive. [default: all]")
@click.option("--prune", is_flag=True, help="Remove days (of those asked for) that the warehouse does not hold.")
def export_table(  # noqa: PLR0913  the options of a command
    warehouse: Path, folder: Path, table: str, first_day: datetime | None, last_day: datetime | None, *, prune: bool
) -> None:
    """Write a table as Parquet, one folder a day: FOLDER/events/tracked_on=YYYY-MM-DD/part-0.parquet.

    Events go by their day (tracked_on), batches and reports by the day they came (received_on). Ids and JSON are text,
    rows are sorted, compression is zstd; the same content makes the same files. A day that was exported before is
    replaced, in one step; a day that the warehouse no longer holds stays, as in an archive, unless --prune is given:
    use it after `erase`. Any other folder that is not empty is refused.
    """
    con, opened = open_file(warehouse)
    with closing(con):
        if opened != warehouse:
            click.echo(f"{warehouse} is in use, exporting its snapshot {opened}", err=True)
        done = export.export(
            con, folder, table, first_day and first_day.date(), last_day and last_day.date(), prune=prune, each=show
        )
    click.echo(f"{folder / table}: {done.rows:,} rows, files: {done.files:,}")
    if done.kept_days:
        click.echo(
            f"days in the folder that the warehouse does not hold: {done.kept_days:,}; --prune removes them", err=True
        )


@main.command()
@place_options
@click.option("--allow-loss", is_flag=True, help="Go on when the old warehouse holds what the landfill does not.")
def rebuild(warehouse: Path, landfill: Path | None, quarantine: Path | None, allow_loss: bool) -> None:
    """Make the warehouse anew from the landfill, then put it in the old one's place in one step.

    What is no longer in the landfill, as RECEIVER_LANDFILL_DAYS may have it, is lost then: that needs --allow-loss.
    Events past RECEIVER_EVENT_DAYS come back until the server starts.
    """
    os.umask(0o077)
    found = rebuild_warehouse(places_beside(warehouse, landfill, quarantine), allow_loss=allow_loss)
    click.echo(f"rebuilt from {found.replayed} records; {found.repeated_records} more were copies")
    if found.kept_warehouse is not None:
        click.echo(f"the old warehouse could not be read and is kept: {found.kept_warehouse}")
    if found.damaged_bytes or found.unloadable:
        click.echo(f"{found.damaged_bytes} bytes were no record; {found.unloadable} records could not be loaded")
        sys.exit(1)


@main.command(name="mend-clock")
@place_options
def mend_clock_command(warehouse: Path, landfill: Path | None, quarantine: Path | None) -> None:
    """Stamp receipts of the future with the time of now, in their order, and make the warehouse anew. Stop the server.

    For a receiver that answers 503 because its clock once was wrong: set the clock first. What is no longer in the
    landfill, as RECEIVER_LANDFILL_DAYS may have it, would be lost: then nothing is put in place of the old warehouse.
    """
    os.umask(0o077)
    places = places_beside(warehouse, landfill, quarantine)
    count = mend_clock(places, datetime.now(UTC))
    click.echo(f"{count} receipts lay ahead of the clock and are stamped with its time now")


@main.command()
@place_options
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
def load(warehouse: Path, landfill: Path | None, quarantine: Path | None, files: tuple[Any, ...]) -> None:
    """Load POST bodies from files (- for standard input), as if they had come by HTTP; one receipt a line."""
    os.umask(0o077)
    settings = read_settings(places_beside(warehouse, landfill, quarantine), "", 0, os.environ)
    with open_store(settings.places) as store:
        for file in files:
            job = prepare(file.read(), settings.limits, require_signature=settings.require_signatures)
            (receipt,) = receive(store, [job])
            click.echo(msgspec.json.encode(receipt).decode())


@main.command(name="erase")
@place_options
@click.option("--instance", "instance_ids", type=click.UUID, multiple=True, help="All that came from this Penpot.")
@click.option(
    "--profile",
    "profile_ids",
    type=click.UUID,
    multiple=True,
    help="All events of this profile, or with its id in them.",
)
@click.option(
    "--new-since", type=click.DateTime(["%Y-%m-%d"]), help="Penpots that were first heard on this day or later."
)
@click.option("--dry-run", is_flag=True, help="Erase nothing; print the ids.")
@click.option("--receipts", is_flag=True, help="Erase nothing; print the receipts that are kept.")
def erase_command(  # noqa: PLR0913, PLR0917  the places and what may be asked
    warehouse: Path,
    landfill: Path | None,
    quarantine: Path | None,
    instance_ids: Sequence[UUID],
    profile_ids: Sequence[UUID],
    new_since: datetime | None,
    dry_run: bool,
    receipts: bool,
) -> None:
    """Remove instances or profiles for good, and print a receipt for each. The server must be stopped.

    --instance and --profile may be given again: several ids cost one pass over the files. The first receipt counts what
    was removed of all of them.

    Whatever was received before goes: rows, rollups, records of the landfill, the snapshot, and quarantined bodies
    that may hold it, which are those of the instances that held it, those of no known instance, and all of them for a
    profile that no instance is known to hold: retry them first. The files are written anew, so the bytes are gone
    too. What was exported or backed up elsewhere is yours to remove.

    A tombstone beside the warehouse (FILE.erased.json: keyed hashes, no ids) keeps it from coming back, by a rebuild
    from an old landfill or an old warehouse. A repeat of an erased batch is answered `duplicate` and loads nothing.
    New batches of the same instance or profile are loaded: to stop them, stop the sender. Cut off at any point, an
    erasure is finished by the next start or command that writes.
    """
    os.umask(0o077)
    places = places_beside(warehouse, landfill, quarantine)
    if receipts:
        for erasure in tombstones.read(places.tombstones).erasures:
            click.echo(msgspec.json.encode(erasure).decode())
        return
    if sum(map(bool, (instance_ids, profile_ids, new_since))) != 1:
        raise click.UsageError("name one of --instance, --profile and --new-since")
    if UUID(int=0) in profile_ids:
        raise click.UsageError("the zero profile is nobody: events without a profile have it")
    if not places.warehouse.exists() and not places.landfill.exists():
        raise click.ClickException(f"{places.warehouse} does not exist: name the warehouse with --warehouse")
    if new_since is not None:
        with closing(open_to_read(warehouse)) as con:
            instance_ids = instances.find_new(con, new_since)
    wanted = list(dict.fromkeys(instance_ids or profile_ids))
    if dry_run or not wanted:
        click.echo("\n".join(map(str, wanted)))
        return
    try:
        done = erase_ids(places, "profile" if profile_ids else "instance", wanted)
    except InUseError as error:
        raise click.ClickException(f"{error}: stop it, then erase; the next start finishes what was begun") from None
    except (OSError, duckdb.Error) as error:
        raise click.ClickException(
            f"stopped by {type(error).__name__}: an erasure needs room for a second copy of the warehouse and of a day "
            "of the landfill; the next start, or the same command again, finishes what was begun"
        ) from None
    for erasure in done:
        click.echo(msgspec.json.encode(erasure).decode())
    if not any(done[0].removed.values()):
        click.echo("nothing of it was found: is the id right?", err=True)


@main.group(name="quarantine")
def quarantine_group() -> None:
    """Bodies that could not be loaded."""


@quarantine_group.command(name="list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def list_quarantine(warehouse: Path, landfill: Path | None, quarantine: Path | None, as_json: bool) -> None:
    """One line a body: number, when, why, bytes, whether it is kept or what a retry made of it, how often again."""
    with closing(open_to_read(warehouse)) as con:
        refused = account.list_refused(con)
    if as_json:
        click.echo(msgspec.json.encode(refused).decode())
        return
    for one in refused:
        kept = one.became or ("kept" if one.body else "gone")
        again = f"and {one.repeats} times again" if one.repeats else ""
        when = one.received_at.isoformat(timespec="seconds")
        click.echo(
            f"{one.quarantine_no:>6}  {when}  {one.reason:<15} {one.size:>9}  {kept}  {one.message} {again}".rstrip()
        )


@quarantine_group.command(name="show")
@place_options
@click.argument("number", type=int)
def show_quarantine(warehouse: Path, landfill: Path | None, quarantine: Path | None, number: int) -> None:
    """The bytes of one body. They may hold what is kept nowhere else: handle with care.

    A file or a pipe gets them as they came; a terminal gets text, without what would command it.
    """
    places = places_beside(warehouse, landfill, quarantine)
    with closing(open_to_read(warehouse)) as con:
        found = next((one for one in account.list_refused(con) if one.quarantine_no == number), None)
    if found is None:
        raise click.ClickException(f"there is no number {number} in the quarantine: see `quarantine list`")
    if found.body is None:
        raise click.ClickException(f"the body of number {number} is no longer kept")
    try:
        body = (places.quarantine / found.body).read_bytes()
    except FileNotFoundError:
        raise click.ClickException(f"the body of number {number} is no longer kept") from None
    show_body(body)


def show_body(body: bytes) -> None:
    """Bytes as they are into a file or a pipe; onto a terminal as text."""
    if sys.stdout.isatty():
        click.echo(make_printable(body.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(body)


def choice_options(command: F) -> F:
    """NUMBER ..., --all or --reason: which bodies a command is for."""
    options = (
        click.option("--reason", type=click.Choice(get_args(Reason)), help="Those put aside for this reason."),
        click.option("--all", "everything", is_flag=True, help="All that are still kept."),
        click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=int),
    )
    for option in options:
        command = option(command)
    return command


@quarantine_group.command(name="retry")
@place_options
@choice_options
def retry_quarantine(warehouse: Path, landfill: Path | None, quarantine: Path | None, **choice: Any) -> None:
    """Read bodies again, after a fix or with a higher limit, and load what can be read now; one line a body.

    A body that still cannot be read stays, with the reason of today; exit 1 when there is one.
    """
    settings = read_settings(places_beside(warehouse, landfill, quarantine), "", 0, os.environ)
    left = 0
    with open_store_there(settings.places) as store:
        for one in choose(account.list_refused(store.warehouse.con), **choice):
            receipt = operations.retry(store, one, settings.limits, require_signature=settings.require_signatures)
            left += one.became is None and (receipt is None or receipt.status == "quarantined")
            click.echo(f"{one.quarantine_no:>6}  {describe_retry(one, receipt)}")
    if left:
        sys.exit(1)


@quarantine_group.command(name="drop")
@place_options
@choice_options
def drop_quarantine(warehouse: Path, landfill: Path | None, quarantine: Path | None, **choice: Any) -> None:
    """Remove bodies for good. What came and why is still listed and counted."""
    with open_store_there(places_beside(warehouse, landfill, quarantine)) as store:
        chosen = choose(account.list_refused(store.warehouse.con), **choice)
        bodies = [one.body for one in chosen if one.body is not None]
        operations.drop(store, bodies)
    click.echo(f"dropped {len(bodies)} bodies" + (f"; {gone} were gone" if (gone := len(chosen) - len(bodies)) else ""))


def open_store_there(places: Places) -> Store:
    """The store for a command that makes none where there is none."""
    if not places.warehouse.exists():
        raise click.ClickException(f"{places.warehouse} does not exist: name the warehouse with --warehouse")
    return open_store(places)


def choose(refused: Sequence[Refused], numbers: Sequence[int], everything: bool, reason: str | None) -> list[Refused]:
    """The bodies that a command is for: those of the numbers, or those still kept, all or of one reason."""
    if bool(numbers) + everything + (reason is not None) != 1:
        raise click.UsageError("name the bodies: by their numbers, or by --reason, or --all")
    if not numbers:
        return [one for one in refused if one.body is not None and reason in (None, one.reason)]
    if unknown := sorted(set(numbers) - {one.quarantine_no for one in refused}):
        raise click.ClickException(f"there is no number {unknown[0]} in the quarantine: see `quarantine list`")
    return [one for one in refused if one.quarantine_no in numbers]


def describe_retry(one: Refused, receipt: Receipt | None) -> str:
    """What a retry made of a body, in one line."""
    if receipt is None:
        return f"not kept: a retry has made it {one.became}" if one.became else "not kept: nothing to read again"
    if receipt.status == "quarantined":
        return f"still {one.reason}" if receipt.reason == one.reason else f"now {receipt.reason}, was {one.reason}"
    return f"{'loaded' if receipt.status == 'accepted' else 'duplicate'}: {receipt.events:,} events"


@main.group(name="dead-letters")
def dead_letters_group() -> None:
    """Events that could not be loaded, while the rest of their batch was."""


@dead_letters_group.command(name="list")
@place_options
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def list_dead_letters(warehouse: Path, landfill: Path | None, quarantine: Path | None, as_json: bool) -> None:
    """One line an event: number, when, why, whether it is kept, instance, place in its batch, what is wrong."""
    with closing(open_to_read(warehouse)) as con:
        letters = account.list_letters(con)
    if as_json:
        click.echo(msgspec.json.encode([msgspec.structs.replace(one, event=None) for one in letters]).decode())
        return
    for one in letters:
        kept = "gone" if one.event is None else "kept" if one.is_whole else "cut"
        when = one.received_at.isoformat(timespec="seconds")
        place = f"{one.instance_id}  {one.event_no:>6}"
        click.echo(f"{one.dead_letter_no:>6}  {when}  {one.reason:<13}  {kept}  {place}  {one.message}")


@dead_letters_group.command(name="show")
@place_options
@click.argument("number", type=int)
def show_dead_letter(warehouse: Path, landfill: Path | None, quarantine: Path | None, number: int) -> None:
    """What is kept of one event, as JSON. Its context is reduced; its props are as they came."""
    with closing(open_to_read(warehouse)) as con:
        (found,) = choose_letters(account.list_letters(con), [number], everything=False, reason=None)
    if found.event is None:
        raise click.ClickException(f"the event of number {number} is no longer kept")
    click.echo(make_printable(found.event) if sys.stdout.isatty() else found.event)


def letter_options(command: F) -> F:
    """NUMBER ..., --all or --reason: which events a command is for."""
    options = (
        click.option("--reason", type=click.Choice(get_args(BadReason)), help="Those kept apart for this reason."),
        click.option("--all", "everything", is_flag=True, help="All that are still kept."),
        click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=int),
    )
    for option in options:
        command = option(command)
    return command


@dead_letters_group.command(name="retry")
@place_options
@letter_options
def retry_dead_letters(warehouse: Path, landfill: Path | None, quarantine: Path | None, **choice: Any) -> None:
    """Read kept events again, after a fix or with a higher limit, and load those that can be read now.

    What is kept is JSON: a keyword or the text of a uuid counts as what it says. Of what was cut nothing is loaded.
    Exit 1 when one stays.
    """
    settings = read_settings(places_beside(warehouse, landfill, quarantine), "", 0, os.environ)
    with open_store_there(settings.places) as store:
        chosen = choose_letters(account.list_letters(store.warehouse.con), **choice)
        loaded = {one.dead_letter_no for one in operations.revive(store, chosen, settings.limits)}
    for one in chosen:
        said = "loaded" if one.dead_letter_no in loaded else f"still {one.reason}"
        click.echo(f"{one.dead_letter_no:>6}  {said}")
    if len(loaded) < len(chosen):
        sys.exit(1)


@dead_letters_group.command(name="drop")
@place_options
@letter_options
def drop_dead_letters(warehouse: Path, landfill: Path | None, quarantine: Path | None, **choice: Any) -> None:
    """Let go what is kept of events; that they came is still listed and counted.

    Their bytes stay in the landfill for as long as it is kept; `erase` removes them there too.
    """
    with open_store_there(places_beside(warehouse, landfill, quarantine)) as store:
        chosen = choose_letters(account.list_letters(store.warehouse.con), **choice)
        operations.drop_letters(store, [one for one in chosen if one.event is not None])
    click.echo(f"dropped {len(chosen)} events")


def choose_letters(
    letters: Sequence[Letter], numbers: Sequence[int], everything: bool, reason: str | None
) -> list[Letter]:
    """The dead letters that a command is for: those of the numbers, or those still kept, all or of one reason."""
    if bool(numbers) + everything + (reason is not None) != 1:
        raise click.UsageError("name the events: by their numbers, or by --reason, or --all")
    if not numbers:
        return [one for one in letters if one.event is not None and reason in (None, one.reason)]
    if unknown := sorted(set(numbers) - {one.dead_letter_no for one in letters}):
        raise click.ClickException(f"there is no number {unknown[0]} among the dead letters: see `dead-letters list`")
    return [one for one in letters if one.dead_letter_no in numbers]


@main.group(name="instances", cls=Commands, usual="list")
def instances_group() -> None:
    """Who sends, and which key signs for whom. Without a command: list."""


@instances_group.command(name="list")
@place_options
@url_option
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def show_instances(
    warehouse: Path, landfill: Path | None, quarantine: Path | None, url: str | None, as_json: bool
) -> None:
    """One line an instance, those heard latest first.

    Trust is that of the newest batch: signed, known again by its batch-id, or by its digest alone. Batches came on so
    many days; `new` are too few for RECEIVER_VOUCH_DAYS. A number before `?` leaves out days on which more was claimed
    than can be.
    """
    found = find_instances(places_beside(warehouse, landfill, quarantine), url)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    if not found:
        click.echo("no instance was heard yet")
        return
    print_instances(found)


@instances_group.command()
@place_options
@click.argument("instance")
def unpin(warehouse: Path, landfill: Path | None, quarantine: Path | None, instance: str) -> None:
    """Take away the key of an instance that lost it: the next signed batch pins its own.

    INSTANCE is an id, or its beginning when only one pinned instance has it. What was put aside before stays there.
    """
    places = read_settings(places_beside(warehouse, landfill, quarantine), "", 0, os.environ).places
    if not places.warehouse.exists():
        raise click.ClickException(f"{places.warehouse} does not exist: name the warehouse with --warehouse")
    with open_store(places) as store:
        found = instances.find_pinned(store.warehouse.con, instance)
        if len(found) != 1:
            raise click.ClickException(f"{len(found)} instances with a pinned key have an id that begins like this")
        key = unpin_key(store, found[0])
    click.echo(f"{found[0]} is no longer bound to {key}")


main.add_command(ask)


# --- what the commands share ----------------------------------------------------------------------------------------


def show(items: Sequence[T]) -> Iterator[T]:
    """The items one by one, with a bar on a terminal."""
    with click.progressbar(items, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield from bar


def find_account(places: Places, url: str | None) -> Account:
    """The account from the warehouse, or from the server that holds it."""

    def read(con: Any) -> Account:
        found = account.read_account(con)
        checks = [*found.checks, landfill_check(con, places)]
        sizes = read_sizes(places.warehouse, places.landfill, measure(places.quarantine))
        return msgspec.structs.replace(found, checks=checks, sizes=sizes)

    return read_or_ask(places, url, read, lambda url: ask_server(url, "/status", Account))


def find_instances(places: Places, url: str | None) -> list[Instance]:
    """Every instance, from the warehouse or from the server that holds it."""

    def ask_pages(url: str) -> list[Instance]:
        found: list[Instance] = []
        while page := ask_server(url, f"/instances?limit={instances.MOST}&offset={len(found)}", Listing).instances:
            found += page
        return found

    vouch_days = read_settings(places, "", 0, os.environ).vouch_days

    def read(con: Any) -> list[Instance]:
        return instances.list_instances(con, vouch_days=vouch_days, limit=EVERY).instances

    return read_or_ask(places, url, read, ask_pages)


def read_or_ask(places: Places, url: str | None, read: Callable[[Any], T], ask_at: Callable[[str], T]) -> T:
    """What `read` finds in the warehouse, or what the server that holds it says."""
    if url is not None:
        return ask_at(url)
    try:
        con = open_to_read(places.warehouse)
    except InUseError:
        return ask_at(find_url(places.warehouse))
    with closing(con):
        return read(con)


def landfill_check(con: Any, places: Places) -> account.Check:
    """Whether the landfill ends where the warehouse says that it is complete."""
    committed, end = warehouse.committed_position(con), journal.end_of(places.landfill)
    left, right = committed.offset if committed else 0, end.offset if end else 0
    return account.Check("landfill read up to = its end", left, right, committed == end or (not left and not right))


def check_journal(places: Places) -> list[account.Check]:
    """What of the landfill cannot be read, what is kept beside it, and what the warehouse has that it lacks.

    Deliveries are compared by day while no server has the warehouse. The days before the oldest file are left out
    when RECEIVER_LANDFILL_DAYS removes them.
    """
    survey = journal.survey(places.landfill)
    checks = [account.Check(f"bytes that are no record in {name}", size, 0, holds=False) for name, size in survey.bad]
    checks += [account.Check(f"kept beside: {path.name}", 1, 0, holds=False) for path in survey.kept]
    try:
        con = open_to_read(places.warehouse)
    except InUseError:
        return checks
    with closing(con):
        since = min(survey.records, default=None) if places.landfill_days else None
        lacking = sum(
            max(0, deliveries - survey.records.get(day, 0))
            for day, deliveries in warehouse.count_by_day(con)
            if (since is None or day >= since) and day not in survey.accepted
        )
    return [*checks, account.Check("deliveries that the landfill lacks", lacking, 0, lacking == 0)]


def open_to_read(path: Path) -> Any:
    """A reading connection to a warehouse that is there."""
    if not path.exists():
        raise click.ClickException(f"{path} does not exist: name the warehouse with --warehouse")
    con = warehouse.connect(path, read_only=True)
    try:
        warehouse.check_version(con, path)
    except BaseException:
        con.close()
        raise
    return con


def find_url(warehouse: Path) -> str:
    """Where the server listens that has a warehouse."""
    try:
        return address_file(warehouse).read_text().strip()
    except FileNotFoundError:
        raise click.ClickException(f"{warehouse} is in use, but not by a server that says where it listens") from None


def ask_server(url: str, path: str, kind: type[T], method: str = "GET", seconds: float = 30) -> T:
    """What a running server answers."""
    try:
        answer = requests.request(
            method, url.rstrip("/") + path, auth=show_token, timeout=seconds, allow_redirects=False
        )
        if answer.status_code == UNAUTHORIZED:
            raise click.ClickException(f"{url} wants its token: set RECEIVER_READ_TOKEN or RECEIVER_READ_TOKEN_FILE")
        answer.raise_for_status()
        return msgspec.json.decode(answer.content, type=kind)
    except (requests.RequestException, msgspec.MsgspecError) as error:
        raise click.ClickException(f"no answer from {url}: {type(error).__name__}") from None


def show_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """The reading token from the environment, if there is one; never credentials of a .netrc."""
    if token := read_secret(os.environ, "RECEIVER_READ_TOKEN"):
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def describe(found: Account) -> str:
    """The account for a person."""
    lines = [
        f"received    {found.received:>12,} bodies",
        f"  loaded    {found.loaded:>12,} ({found.batches:,} batches with {found.events:,} events from "
        f"{found.instances:,} instances; {found.reports:,} legacy reports)",
        f"  duplicate {found.duplicate:>12,}",
        f"  quarantined {found.quarantined:>10,} "
        + ", ".join(f"{n:,} {reason}" for reason, n in found.quarantine.items()),
        *(f"{events:,} of the events removed since by {cause}" for cause, events in found.removed.items()),
        f"lost before sending, as senders say: {found.lost_at_senders:,} events",
        *(
            f"  {loss.reported_on}  {loss.instance_id}  {loss.dropped:,} dropped by gc, {loss.quarantined:,} set aside"
            for loss in found.losses
        ),
        f"missing in the sequences: {found.missing_batches:,} batches",
        *(f"  {gap.instance_id}  {gap.first_missing} to {gap.last_missing}" for gap in found.gaps),
        *(
            [f"claimed more than can be: {found.implausible_instances:,} instances, not counted on these days"]
            if found.implausible_instances
            else []
        ),
        f"dead letters {sum(found.dead_letters.values()):>11,} "
        + ", ".join(f"{n:,} {reason}" for reason, n in found.dead_letters.items()),
        f"removed on load: {found.dropped_context_keys:,} context keys, {found.unknown_keys:,} event keys; "
        f"{found.changed_values:,} context values reduced, {found.ignored_fields:,} odd fields ignored",
        f"last batch  {found.last_batch_at:%Y-%m-%d %H:%M:%S} UTC" if found.last_batch_at else "last batch  none yet",
        *([] if found.sizes is None else [describe_sizes(found.sizes)]),
        describe_checks(found),
    ]
    return "\n".join(line.rstrip() for line in lines)


def describe_sizes(sizes: Sizes) -> str:
    """What is on the disks, in one line."""
    parts = [f"{name} {size / MIB:,.1f}" for name, size in msgspec.structs.asdict(sizes).items()]
    return "MiB         " + ", ".join(parts)


def describe_checks(found: Account) -> str:
    """One line a check, the broken ones marked."""
    lines = [f"{'ok ' if one.holds else 'NOT'}  {one.name}: {one.left:,} and {one.right:,}" for one in found.checks]
    return "\n".join([*lines, "the sums agree" if found.adds_up else "THE SUMS DO NOT AGREE"])


def print_instances(found: list[Instance]) -> None:
    """A table that fits the terminal; elsewhere one plain line an instance."""
    heads = ("instance", "first seen", "last seen", "version", "days", "batches", "events", "trust", "missing", "lost")
    if not sys.stdout.isatty():
        click.echo("\t".join(heads))
        for one in found:
            click.echo("\t".join(cells(one)))
        return
    from rich.console import Console  # noqa: PLC0415  slow to load
    from rich.table import Table  # noqa: PLC0415

    console = Console()
    is_narrow = console.width < WIDE
    table = Table(box=None, pad_edge=False, padding=(0, 1 if is_narrow else 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="right" if head in NUMBERS else "left")
    for one in found:
        name, *rest = cells(one, is_short=is_narrow)
        table.add_row(name[:8] if is_narrow else name, *rest)
    console.print(table)


def cells(one: Instance, *, is_short: bool = False) -> list[str]:
    """One instance as text, in the order of the table; `is_short` leaves the hours out."""
    others = f" +{one.versions - 1}" if one.versions > 1 else ""
    when = f"{one.last_seen:%Y-%m-%d}" if is_short else f"{one.last_seen:%Y-%m-%d %H:%M}"
    seen = (str(one.instance_id), f"{one.first_seen:%Y-%m-%d}", when, one.version + others)
    days, doubt = f"{one.days:,}" + ("" if one.is_vouched else " new"), "?" if one.implausible_days else ""
    counts = (f"{one.batches:,}", f"{one.events:,}", one.trust or "-")
    return [*seen, days, *counts, f"{one.missing:,}{doubt}", f"{one.lost:,}{doubt}"]
