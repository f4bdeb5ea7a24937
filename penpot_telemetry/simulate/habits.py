"""What people do in a Penpot, as tables: event kinds, how often, on which machine, under which release.

Data only. Event names, props and context keys are those that a Penpot 2.18 sends; how often each happens, the days of
the releases and the shares of browsers are this simulation's own and claim nothing about the world.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from penpot_telemetry.events import Origin


class Release(NamedTuple):
    """A version and the day from which it could be installed."""

    version: str
    day: date


RELEASES = (
    Release("2.3.0", date(2024, 11, 18)),
    Release("2.4.0", date(2025, 1, 13)),
    Release("2.5.0", date(2025, 2, 24)),
    Release("2.6.0", date(2025, 4, 7)),
    Release("2.7.0", date(2025, 5, 19)),
    Release("2.8.0", date(2025, 6, 30)),
    Release("2.9.0", date(2025, 8, 11)),
    Release("2.10.0", date(2025, 9, 22)),
    Release("2.11.0", date(2025, 11, 3)),
    Release("2.12.0", date(2025, 12, 8)),
    Release("2.13.0", date(2026, 1, 19)),
    Release("2.14.0", date(2026, 3, 2)),
    Release("2.15.0", date(2026, 4, 13)),
    Release("2.16.0", date(2026, 5, 11)),
    Release("2.17.0", date(2026, 6, 15)),
    Release("2.18.0", date(2026, 7, 22)),
    Release("2.19.0", date(2026, 9, 7)),
    Release("2.20.0", date(2026, 10, 19)),
    Release("2.21.0", date(2026, 12, 7)),
)

FIRST_DIALECT = frozenset(release.version for release in RELEASES[:12])
"""Up to 2.14.0 a plain Penpot of this simulation sends no props and one source."""

UPGRADE_LAGS = ((0.40, 4.0), (0.40, 25.0), (0.20, 110.0))
"""Operators by eagerness: share, and mean days from a release to its upgrade."""

NEVER_UPGRADES = 0.07

WEEKDAYS = (1.0, 1.05, 1.05, 1.0, 0.85, 0.18, 0.15)
"""How likely a person is to work, Monday first, against an average workday."""

HOLIDAYS = frozenset({(1, 1), (1, 6), (5, 1), (8, 15), (11, 1), (12, 24), (12, 25), (12, 26), (12, 31)})
HOLIDAY_FACTOR = 0.2

PRESENCE = ((0.35, 0.80), (0.40, 0.35), (0.25, 0.10))
"""People by how often they come: share, and chance of an average workday."""

RETENTION = ((0.45, 9.0), (0.55, 320.0))
"""Newcomers by how long they stay: share, and mean days until they come no more. The mix makes the curve."""

FOUNDERS_STAY = 320.0


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One kind of event. `props` maps a prop to where its value comes from: a name known to `render`, or a constant."""

    name: str
    type: str
    origin: Origin
    props: Mapping[str, object]
    event_origin: str | None = None
    per_day: float = 0.0
    """Mean times on an average day of somebody who does it at all."""
    share: float = 1.0
    """Share of people who ever take up this habit."""
    since: str = ""
    """The release that brought it; empty: always there."""


class From(NamedTuple):
    """A prop whose value is made for the day: an id (`file`, `team` …), or a number below `limit`."""

    what: str
    limit: int = 0

    @property
    def key(self) -> str:
        """Under which name a day's values hold it."""
        return f"{self.what}-{self.limit}" if self.limit else self.what


UUIDS = frozenset({"profile", "team", "project", "file", "page", "media", "thread", "library"})
"""What is an id of sixteen bytes; the ids of `navigate` are texts, as a route's parameters are."""

NUMBER_LIMITS = (5, 8, 9, 20, 40, 300, 3000, 4000)

_ID = {name: From(name) for name in UUIDS}
_ACCOUNT: Mapping[str, object] = {
    "id": _ID["profile"],
    "default-team-id": _ID["team"],
    "default-project-id": _ID["project"],
    "auth-backend": "penpot",
    "email-domain": From("email-domain"),
    "lang": From("lang"),
    "is-active": True,
    "is-muted": False,
    "newsletter-updates": False,
}
_FILE: Mapping[str, object] = {"file-id": _ID["file"], "team-id": _ID["team"]}


def _command(name: str, per_day: float, **props: object) -> Kind:
    return Kind(
        name, "command", "backend", {key.replace("_", "-"): value for key, value in props.items()}, None, per_day
    )


INSTANCE_START = Kind(
    "instance-start", "trigger", "backend", {"version": From("version"), "public-uri": From("public-uri")}
)
LOGIN_PAGE = Kind("navigate", "action", "frontend", {"route": "auth-login"})
SIGNIN = Kind("signin", "identify", "frontend", _ACCOUNT)
LOGIN = Kind("login-with-password", "command", "backend", {**_ACCOUNT, "onboarding-viewed": True})
ONBOARDING = Kind("onboarding-step", "action", "frontend", {"step": From("number", 5)}, "dashboard")
BOT_READ = _command("get-file", 0, id=_ID["file"], project_id=_ID["project"])

ROUTINE = (
    _command("get-profile", 3.0),
    _command("get-teams", 2.0, profile_id=_ID["profile"]),
    _command("get-projects", 1.8, team_id=_ID["team"]),
    _command("get-team-recent-files", 1.6, team_id=_ID["team"]),
    _command("get-font-variants", 1.5, team_id=_ID["team"]),
    _command("get-unread-comment-threads", 1.3, team_id=_ID["team"]),
    _command("get-team-shared-files", 1.1, team_id=_ID["team"]),
    _command("get-team-members", 0.9, team_id=_ID["team"]),
    _command("get-project-files", 0.9, project_id=_ID["project"]),
    Kind("navigate", "action", "frontend", {"route": "dashboard-recent", "team-id": From("team-text")}, None, 1.0),
    Kind(
        "navigate",
        "action",
        "frontend",
        {
            "route": "workspace",
            "team-id": From("team-text"),
            "file-id": From("file-text"),
            "page-id": From("page-text"),
        },
        None,
        1.8,
    ),
    _command("get-file", 2.9, id=_ID["file"], project_id=_ID["project"]),
    _command("get-file-libraries", 1.8, file_id=_ID["file"]),
    _command("get-file-fragment", 1.0, file_id=_ID["file"], fragment_id=_ID["page"]),
    _command("get-comment-threads", 1.7, file_id=_ID["file"]),
    _command("update-file", 10.5, id=_ID["file"], project_id=_ID["project"], team_id=_ID["team"]),
    _command("create-file", 0.45, id=_ID["file"], project_id=_ID["project"], team_id=_ID["team"], is_shared=False),
    _command("rename-file", 0.2, id=_ID["file"], project_id=_ID["project"]),
    _command("create-project", 0.15, id=_ID["project"], team_id=_ID["team"]),
    _command("update-profile-props", 0.2),
    Kind(
        "performance-long-task",
        "trigger",
        "frontend",
        {"file-id": _ID["file"], "duration": From("number", 4000)},
        None,
        0.5,
    ),
    Kind(
        "performance-blocking-event",
        "trigger",
        "frontend",
        {"file-id": _ID["file"], "duration": From("number", 4000)},
        None,
        0.5,
    ),
)
"""What an active person's day is made of, in the order of the day."""

ALWAYS = frozenset({ROUTINE[0], ROUTINE[9]})
"""What nobody can do without: their own profile, and the page they land on."""

_MENU, _SIDEBAR, _DASHBOARD = "workspace:menu", "workspace:sidebar", "dashboard"


def _feature(  # noqa: PLR0913  a row of the table below
    name: str,
    where: str,
    share: float,
    per_day: float,
    *,
    props: Mapping[str, object] | None = None,
    since: str = "",
) -> Kind:
    return Kind(name, "action", "frontend", props or {}, where, per_day, share, since)


FEATURES = (
    _feature("create-shape", _MENU, 0.85, 5.0, props=_FILE),
    _feature("create-board", _MENU, 0.60, 1.0, props=_FILE),
    _feature(
        "use-library-component",
        _SIDEBAR,
        0.40,
        2.5,
        props={**_FILE, "component-id": _ID["library"], "is-library": True},
    ),
    _feature("use-library-color", _SIDEBAR, 0.30, 1.6, props={**_FILE, "is-library": False}),
    _feature("add-asset-to-library", "workspace", 0.25, 2.0),
    _feature("component-swap", _SIDEBAR, 0.12, 1.2, props={"library-id": _ID["library"]}),
    _feature("variant-switch", _SIDEBAR, 0.25, 1.5, since="2.16.0"),
    _feature("apply-tokens", _SIDEBAR, 0.25, 2.0, props={"num": From("number", 300)}, since="2.14.0"),
    _feature("create-token", _SIDEBAR, 0.15, 1.0, since="2.14.0"),
    _feature("layout-add-element", _SIDEBAR, 0.30, 1.2, props={**_FILE, "count": From("number", 9)}),
    _feature("layout-change-alignment", _SIDEBAR, 0.25, 1.2),
    _feature("add-prototype-interaction", _MENU, 0.25, 1.5, props=_FILE),
    _feature("export-shapes", _MENU, 0.35, 0.9, props={**_FILE, "num-files": From("number", 40)}),
    _feature("copy-inspect-code", "viewer", 0.20, 3.0),
    _feature("open-plugins-manager", _MENU, 0.12, 0.7),
    _feature("start-plugin", _MENU, 0.08, 1.0),
    _feature(
        "import-files", _DASHBOARD, 0.10, 0.3, props={"project-id": _ID["project"], "num-files": From("number", 20)}
    ),
    _feature("explore-libraries-click", _DASHBOARD, 0.10, 0.3),
    _feature("restore-files", _DASHBOARD, 0.05, 0.3, props={"num-files": From("number", 8)}),
    _feature("show-release-notes", _DASHBOARD, 0.30, 0.1),
    Kind(
        "create-comment",
        "command",
        "backend",
        {"id": _ID["media"], "thread-id": _ID["thread"], "is-resolved": False},
        None,
        1.2,
        0.30,
    ),
    Kind(
        "upload-file-media-object",
        "command",
        "backend",
        {
            "id": _ID["media"],
            "file-id": _ID["file"],
            "is-local": True,
            "width": From("number", 4000),
            "height": From("number", 3000),
        },
        None,
        1.5,
        0.45,
    ),
)
"""Habits that a person takes up on some day, or never."""

FEATURE_NAMES = tuple(sorted(kind.name for kind in FEATURES))


class Platform(NamedTuple):
    """A person's browser, system, screen and language; it stays the same."""

    browser: str
    browser_version: str
    engine: str
    engine_version: str
    os: str
    os_version: str
    arch: str | None
    width: int
    height: int
    depth: int
    locale: str
    user_agent: str


class Browser(NamedTuple):
    name: str
    version: str
    engine: str
    engine_version: str
    agent: str


class System(NamedTuple):
    name: str
    version: str
    agent: str


_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = Browser("Chrome", "138.0.0.0", "Blink", "138.0.0.0", f"({{}}) {_WEBKIT} Chrome/138.0.0.0 Safari/537.36")
EDGE = Browser(
    "Edge", "138.0.0.0", "Blink", "138.0.0.0", f"({{}}) {_WEBKIT} Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0"
)
FIREFOX = Browser("Firefox", "140.0", "Gecko", "140.0", "({}; rv:140.0) Gecko/20100101 Firefox/140.0")
SAFARI = Browser(
    "Safari", "18.5", "WebKit", "605.1.15", "({}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15"
)

WINDOWS = System("Windows 11", "11", "Windows NT 10.0; Win64; x64")
MACOS = System("macOS 10.15.7", "10.15.7", "Macintosh; Intel Mac OS X 10_15_7")

SYSTEMS: tuple[tuple[float, tuple[System, tuple[tuple[float, Browser], ...]]], ...] = (
    (0.34, (WINDOWS, ((0.60, CHROME), (0.25, EDGE), (0.15, FIREFOX)))),
    (0.16, (System("Windows 10", "10", "Windows NT 10.0; Win64; x64"), ((0.6, CHROME), (0.2, EDGE), (0.2, FIREFOX)))),
    (0.28, (MACOS, ((0.55, CHROME), (0.30, SAFARI), (0.15, FIREFOX)))),
    (0.12, (System("Ubuntu ", "", "X11; Ubuntu; Linux x86_64"), ((0.45, CHROME), (0.55, FIREFOX)))),
    (0.10, (System("Linux ", "", "X11; Linux x86_64"), ((0.45, CHROME), (0.55, FIREFOX)))),
)
"""Systems by share, and on each its browsers by share."""

SCREENS = ((0.40, (1920, 1080)), (0.18, (2560, 1440)), (0.16, (1728, 1117)), (0.14, (1536, 864)), (0.12, (1920, 1200)))

LOCALES = (
    (0.36, "en"), (0.14, "es"), (0.10, "fr"), (0.09, "de"), (0.07, "pt_br"), (0.05, "it"), (0.05, "zh_cn"),
    (0.04, "ja_jp"), (0.03, "ru"), (0.02, "tr"), (0.02, "uk_ua"), (0.02, "nl"), (0.01, "ca"),
)  # fmt: skip

EMAIL_DOMAINS = ("example.com", "example.org", "example.net", "studio.example", "uni.example")

SCRIPT_AGENT = "python-requests/2.32.4"
