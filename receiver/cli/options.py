"""Options and groups that the commands share."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Protocol, TypeVar

import click

from penpot_telemetry.errors import TelemetryError
from receiver.server.settings import VARIABLES
from receiver.storage.paths import places_beside

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """A group whose command may be left out: `usual` is it then. Errors of ours end in one line and exit code 1."""

    def __init__(self, *args: Any, usual: str = "serve", **more: Any) -> None:
        super().__init__(*args, **more)
        self.usual = usual

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the usual command in front unless another or the group's own help is asked for."""
        if not args or (args[0] not in self.list_commands(ctx) and args[0] != "--help"):
            args = [self.usual, *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (TelemetryError, OSError) as error:
            raise click.ClickException(explain(error)) from None
        except Exception as error:
            if is_of_duckdb(error):
                raise click.ClickException(explain(error)) from None
            raise


def is_of_duckdb(error: Exception) -> bool:
    """Whether the warehouse failed; asked without loading DuckDB, which takes longer than most commands."""
    loaded = sys.modules.get("duckdb")
    return loaded is not None and isinstance(error, loaded.Error)


def explain(error: Exception) -> str:
    """One line for the operator. DuckDB's own words may quote a value, so they are left out."""
    if isinstance(error, TelemetryError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}"
    return (
        f"the warehouse cannot be read or written ({type(error).__name__}): is the disk full? If it is damaged, "
        "`python -m receiver rebuild` makes it anew from the landfill and keeps the old file"
    )


class Usage(click.Command):
    """A command whose help ends with the variables."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The variables that have no option."""
        del ctx
        with formatter.section("Environment"):
            formatter.write_dl(list(VARIABLES.items()))


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--warehouse, --landfill and --quarantine, the same for every command, which gets them as `places`."""
    folder = click.Path(path_type=Path, file_okay=False)
    file = click.Path(path_type=Path, dir_okay=False)
    options = (
        click.option("--quarantine", type=folder, envvar="RECEIVER_QUARANTINE", show_envvar=True,
                     help="Folder of the bodies put aside. [default: beside the warehouse]"),
        click.option("--landfill", type=folder, envvar="RECEIVER_LANDFILL", show_envvar=True,
                     help="Folder of the log a warehouse is rebuilt from. [default: beside the warehouse]"),
        click.option("--warehouse", type=file, default=Path("telemetry.duckdb"), envvar="RECEIVER_WAREHOUSE",
                     show_envvar=True, show_default=True, help="The DuckDB file."),
    )  # fmt: skip

    @wraps(command)
    def call(*args: Any, warehouse: Path, landfill: Path | None, quarantine: Path | None, **more: Any) -> Any:
        return command(*args, places=places_beside(warehouse, landfill, quarantine), **more)

    for option in options:
        call = option(call)
    return call


url_option = click.option("--url", help="Ask the server at this URL, whatever holds the warehouse.")


def choice_options(reasons: Sequence[str]) -> Callable[[F], F]:
    """NUMBER ..., --all or --reason: which of those that are listed a command is for."""
    options = (
        click.option("--reason", type=click.Choice(list(reasons)), help="Those that were refused for this reason."),
        click.option("--all", "everything", is_flag=True, help="All that are still kept."),
        click.argument("numbers", metavar="[NUMBER]...", nargs=-1, type=int),
    )

    def decorate(command: F) -> F:
        for option in options:
            command = option(command)
        return command

    return decorate


class Listed(Protocol):
    """What a list shows with its number and its reason."""

    @property
    def reason(self) -> str:
        """Why it could not be loaded."""


L = TypeVar("L", bound=Listed)


def choose(  # noqa: PLR0913, PLR0917  the list, and the three ways to choose from it
    listed: Mapping[int, L],
    is_kept: Callable[[L], bool],
    group: str,
    numbers: Sequence[int],
    everything: bool,
    reason: str | None,
) -> list[L]:
    """Those that a command is for: by their numbers, or those still kept, all or of one reason."""
    if bool(numbers) + everything + (reason is not None) != 1:
        raise click.UsageError("name what is meant: by numbers, or by --reason, or --all")
    if not numbers:
        return [one for one in listed.values() if is_kept(one) and reason in (None, one.reason)]
    if unknown := sorted(set(numbers) - listed.keys()):
        raise click.ClickException(f"there is no number {unknown[0]}: see `{group} list`")
    return [one for number, one in listed.items() if number in numbers]
