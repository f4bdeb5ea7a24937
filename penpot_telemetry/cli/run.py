"""`run`: passes of the pipeline; `health`: whether a process that makes them is well."""

import sys
from pathlib import Path

import click

from penpot_telemetry.cli.session import read_settings
from penpot_telemetry.errors import ConfigError


@click.command()
@click.option(
    "--every", metavar="INTERVAL", help="Go on, one pass every 3h, 15m, 90s; SIGTERM ends it between two batches."
)
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
    if demo:
        from penpot_telemetry.demo import run_demo  # noqa: PLC0415

        sys.exit(run_demo())
    if every is None and (metrics is not None or heartbeat is not None):
        raise ConfigError("--metrics and --heartbeat belong to a process that goes on: say --every 3h, too")
    settings = read_settings(PENPOT_TELEMETRY_URI=uri)
    if dry_run:
        from penpot_telemetry.cli.dry_run import dry_run as look_only  # noqa: PLC0415

        sys.exit(look_only(settings, as_json=as_json))
    if every is not None:
        from penpot_telemetry.cli.schedule import parse_interval, run_every  # noqa: PLC0415

        seconds = parse_interval(every)
        sys.exit(run_every(settings, seconds, as_json=as_json, metrics=metrics, heartbeat=heartbeat))
    from penpot_telemetry.cli.output import run_once  # noqa: PLC0415

    sys.exit(run_once(settings, as_json=as_json))


@click.command(short_help="Whether a scheduled sender is well.")
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

    from penpot_telemetry.cli.schedule import parse_interval  # noqa: PLC0415
    from penpot_telemetry.heartbeat import read_health  # noqa: PLC0415

    found = read_health(heartbeat, parse_interval(max_age), datetime.now(UTC))
    click.echo(found.reason, err=not found.is_well)
    sys.exit(0 if found.is_well else 1)
