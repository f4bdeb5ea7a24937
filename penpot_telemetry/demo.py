"""The whole flow in under a minute, on real parts: three simulated Penpots, one receiver, one outage.

Each Penpot has a database of its own in the embedded Postgres; the receiver is a process of its own behind HTTP. At
the end the sums of both sides are compared. Nothing leaves this machine.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import requests
from rich.console import Console
from rich.table import Table

from penpot_telemetry import audit_log, connection, embedded_postgres, pipeline, schema
from penpot_telemetry.config import Settings, read_settings
from penpot_telemetry.endpoint import parse_endpoint
from penpot_telemetry.errors import ConfigError, TelemetryError
from penpot_telemetry.simulate import Fleet, demo_fleet

MARKER = ".penpot-telemetry-demo"
OUTAGE = (2, 3)
"""The days (counted from 0) on which the receiver is down."""

NAMES = ("a company", "a studio", "a household")

ACTIVE = """
SELECT tracked_on, count(*)::BIGINT, count(DISTINCT instance_id)::BIGINT,
       count(DISTINCT profile_id) FILTER (profile_id <> '00000000-0000-0000-0000-000000000000')::BIGINT
FROM events WHERE version <> $penpot GROUP BY tracked_on ORDER BY tracked_on
"""

TOP = """
SELECT name, count(*)::BIGINT AS events, count(DISTINCT instance_id)::BIGINT,
       count(DISTINCT profile_id) FILTER (profile_id <> '00000000-0000-0000-0000-000000000000')::BIGINT
FROM events WHERE version <> $penpot GROUP BY name ORDER BY events DESC, name LIMIT 8
"""


class DemoError(TelemetryError):
    """The demo cannot go on; says why."""


@dataclass(slots=True)
class Penpot:
    """One simulated Penpot: its database, and what its sender did so far."""

    name: str
    settings: Settings
    conn: psycopg.Connection
    recorded: int = 0
    batches: int = 0
    shipped: int = 0
    dropped: int = 0
    pending: int = 0


@dataclass(slots=True)
class Receiver:
    """The receiver's process, which can be stopped and started again on the same files and the same port."""

    warehouse: Path
    log: Path
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and return its address, once it listens."""
        command = [sys.executable, "-m", "receiver", "--warehouse", str(self.warehouse), "--port", str(self.port)]
        with self.log.open("a") as log:
            environ = {name: value for name, value in os.environ.items() if not name.startswith("RECEIVER_")}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environ)  # noqa: S603
        if self.process.stdout is not None:
            for line in self.process.stdout:
                if line.startswith("listening on "):
                    url = line.removeprefix("listening on ").strip()
                    self.port = int(url.rsplit(":", 1)[1].strip("/"))
                    return url
        self.stop()
        raise DemoError(f"the receiver did not start: look at {self.log}")

    def stop(self) -> None:
        """End it as an operator would, and wait for it."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None


def run_demo(folder: Path | None = None) -> int:
    """Run it in a folder (`PENPOT_TELEMETRY_DEMO`, else `demo-data`), made anew. 0 when all sums agree, 1 otherwise."""
    try:
        import duckdb  # noqa: F401, PLC0415  fail before anything is started
    except ImportError:
        raise ConfigError("the demo runs a receiver: pip install 'penpot-telemetry[embedded,receiver]'") from None
    folder = (folder or Path(os.environ.get("PENPOT_TELEMETRY_DEMO", "demo-data"))).resolve()
    make_folder(folder)
    console = Console(highlight=False)
    began = time.monotonic()
    fleet = demo_fleet()
    with ExitStack() as stack:
        console.print(f"[bold]Three Penpots, seven days, one receiver[/bold]   everything is in {folder}\n")
        receiver = Receiver(folder / "telemetry.duckdb", folder / "receiver.log")
        stack.callback(receiver.stop)
        url = receiver.start()
        penpots = list(stack.enter_context(open_penpots(fleet, folder, url)))
        for day in fleet.days():
            if day == fleet.days()[OUTAGE[0]]:
                receiver.stop()
            elif day == fleet.days()[OUTAGE[1] + 1]:
                receiver.start()
            simulate_day(console, fleet, penpots, day)
        print_senders(console, penpots)
        own, again = send_penpots_own_batch(url)
        console.print(
            f"\nA batch of {own['events']:,} events that Penpot's own backend wrote, sent twice:\n"
            f"  [bold]{own['status']}, then {again['status']}[/bold]"
        )
        account = requests.get(f"{url.rstrip('/')}/status", timeout=30).json()
        receiver.stop()
    agree = print_receiver(console, penpots, account, own["events"])
    print_answers(console, receiver.warehouse)
    print_next_steps(console, receiver.warehouse, time.monotonic() - began)
    return 0 if agree else 1


def make_folder(folder: Path) -> None:
    """An empty folder, marked as the demo's own; another folder with something in it is left alone."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise ConfigError(f"{folder} is not empty and not the demo's: name another one in PENPOT_TELEMETRY_DEMO")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


@contextmanager
def open_penpots(fleet: Fleet, folder: Path, url: str) -> Iterator[list[Penpot]]:
    """A database for each Penpot of the fleet, on the embedded server."""
    base = read_settings({"PENPOT_FLAGS": "enable-telemetry", "PENPOT_TELEMETRY_DATA": str(folder / "senders")})
    base = replace(base, endpoint=parse_endpoint(url), attempts=1)
    with embedded_postgres.serve(base.data_dir) as server, ExitStack() as stack:
        with connection.connect(server) as conn:
            for instance in fleet.instances:
                conn.execute(f"CREATE DATABASE penpot_{instance.number}".encode())
        penpots = []
        for name, instance in zip(NAMES, fleet.instances, strict=True):
            parameters: Mapping[str, str] = {**server, "dbname": f"penpot_{instance.number}"}
            conn = stack.enter_context(connection.connect(parameters))
            audit_log.create_table(conn)
            schema.ensure_schema(conn)
            settings = replace(base, instance_id=instance.id, version=instance.versions[0].version)
            penpots.append(Penpot(name, settings, conn))
        yield penpots


def simulate_day(console: Console, fleet: Fleet, penpots: list[Penpot], day: date) -> None:
    """Record a day's events on each Penpot, then let each sender run once."""
    recorded, shipped, failures = 0, 0, Counter[str]()
    for penpot, instance in zip(penpots, fleet.instances, strict=True):
        events = fleet.audit_events(fleet.plan(instance, day))
        accepted = pipeline.record_events(penpot.conn, events, penpot.settings).accepted
        settings = replace(penpot.settings, version=instance.version_on(day))
        report = pipeline.run_pass(penpot.conn, settings)
        penpot.recorded += accepted
        penpot.batches += report.batches
        penpot.shipped += report.shipped
        penpot.dropped += report.dropped
        penpot.pending = report.pending
        recorded += accepted
        shipped += report.shipped
        failures.update(["unreachable"] if report.failure else [])
    waiting = sum(penpot.pending for penpot in penpots)
    note = "[yellow]receiver down[/yellow]" if failures else "[green]all delivered[/green]"
    console.print(f"  {day:%a %d %b}  recorded {recorded:>6,}   shipped {shipped:>6,}   waiting {waiting:>6,}   {note}")


def send_penpots_own_batch(url: str) -> list[dict[str, Any]]:
    """Send the recorded body of a live Penpot backend, and send it again as Penpot does after a lost answer."""
    body = files("penpot_telemetry").joinpath("samples/penpot-batch-1.payload.json").read_bytes()
    headers = {"content-type": "application/json"}
    return [requests.post(url, data=body, headers=headers, timeout=60).json() for _ in range(2)]


def print_senders(console: Console, penpots: list[Penpot]) -> None:
    """What each sender recorded, and what became of it."""
    table = Table(title="\nBeside the Penpots", title_justify="left", box=None, pad_edge=False)
    for column in ("", "recorded", "dropped by gc", "shipped", "batches", "waiting"):
        table.add_column(column, justify="right" if column else "left")
    for penpot in penpots:
        figures = (penpot.recorded, penpot.dropped, penpot.shipped, penpot.batches, penpot.pending)
        table.add_row(penpot.name, *(f"{figure:,}" for figure in figures))
    console.print(table)


def print_receiver(console: Console, penpots: list[Penpot], account: Mapping[str, Any], others: int) -> bool:
    """What arrived, and whether it is what was sent; True when every sum agrees."""
    recorded = sum(penpot.recorded for penpot in penpots)
    kept = sum(penpot.shipped + penpot.dropped + penpot.pending for penpot in penpots)
    shipped = sum(penpot.shipped for penpot in penpots)
    loaded = account["events"] - others
    own = all(check["holds"] for check in account["checks"])
    sums = [
        ("recorded = shipped + dropped + waiting", recorded, kept, recorded == kept),
        ("shipped = loaded", shipped, loaded, shipped == loaded),
        ("loaded + duplicate + quarantined = received", account["loaded"], account["received"], own),
    ]
    console.print("\n[bold]At the receiver[/bold]")
    console.print(
        f"  {account['received']:,} bodies: {account['loaded']:,} loaded, {account['duplicate']:,} duplicate, "
        f"{account['quarantined']:,} quarantined\n"
        f"  {account['events']:,} events from {account['instances']} instances"
    )
    for name, left, right, holds in sums:
        mark = "[green]agrees[/green]" if holds else "[red]DOES NOT AGREE[/red]"
        shown = f"{left:,} and {right:,}  " if name != sums[-1][0] else ""
        console.print(f"  {name:<46} {shown}{mark}")
    return all(holds for *_, holds in sums)


def print_answers(console: Console, warehouse: Path) -> None:
    """First answers from the warehouse: events and active profiles by day, and what people do most."""
    import duckdb  # noqa: PLC0415  an extra

    with duckdb.connect(str(warehouse), read_only=True) as con:
        penpot = {"penpot": "2.18.0-RC1-17-g66bb6a11df"}
        days = con.execute(ACTIVE, penpot).fetchall()
        names = con.execute(TOP, penpot).fetchall()
    most = max(events for _, events, _, _ in days)
    table = Table(title="\nThe simulated week", title_justify="left", box=None, pad_edge=False)
    for column in ("day", "events", "active instances", "active profiles", ""):
        table.add_column(column, justify="left" if column in {"day", ""} else "right")
    for day, events, instances, profiles in days:
        bar = "█" * round(24 * events / most)
        table.add_row(f"{day:%a %d %b}", f"{events:,}", f"{instances}", f"{profiles:,}", f"[cyan]{bar}[/cyan]")
    console.print(table)
    table = Table(title="\nWhat happened most", title_justify="left", box=None, pad_edge=False)
    for column in ("event", "events", "instances", "profiles"):
        table.add_column(column, justify="left" if column == "event" else "right")
    for name, *figures in names:
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    console.print(table)


def print_next_steps(console: Console, warehouse: Path, seconds: float) -> None:
    """Where things are, and what to try."""
    shown = os.path.relpath(warehouse)
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else "python"
    console.print(f"\n{seconds:.0f} seconds. The warehouse is [bold]{shown}[/bold]. Try:")
    for command, what in (
        (f"{python} -m receiver status --warehouse {shown}", "the account of the receiver, and whether it adds up"),
        (f"{python} -m receiver ask --warehouse {shown} active_profiles", "ask it how many people used Penpot"),
        (f"{python} -m receiver ask --list", "the other questions; --chart draws an answer"),
        (f"{python} -m receiver --warehouse {shown}", "serve it again: senders may POST to http://127.0.0.1:6070/"),
        ("make notebooks", "run the notebooks, which explain each stage"),
    ):
        console.print(f"  {command}\n      [dim]{what}[/dim]", soft_wrap=True)
