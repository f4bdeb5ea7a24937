from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from penpot_telemetry.config import read_flags, read_settings
from penpot_telemetry.database_uri import parse_database_uri
from penpot_telemetry.endpoint import Endpoint, parse_endpoint
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire import signature

HOME = Path("/home/ada")


# Penpot reads its flags so (common/app/common/flags.cljc, backend/app/config.clj, common/app/common/schema.cljc): the
# text is split at blanks and commas; `enable-x` and `disable-x` are flags, with their case, and nothing else is; what
# PENPOT_TELEMETRY_ENABLED says is read before them, and is one of true, t, 1, false, f, 0.
@pytest.mark.parametrize(
    ("enabled", "flags", "active"),
    [
        # neither says anything
        (None, None, False),
        (None, "", False),
        ("", "", False),
        (None, "  , ,\t\n", False),
        # one of the two speaks
        ("true", None, True),
        ("t", None, True),
        ("1", None, True),
        ("false", None, False),
        ("f", None, False),
        ("0", None, False),
        (None, "enable-telemetry", True),
        (None, "disable-telemetry", False),
        # both speak: flags are read last, so they win
        ("true", "disable-telemetry", False),
        ("true", "enable-login disable-telemetry enable-smtp", False),
        ("false", "enable-telemetry", True),
        ("true", "enable-telemetry", True),
        ("true", "enable-login", True),
        # the last word on a subject wins, however often it is said
        (None, "enable-telemetry disable-telemetry", False),
        (None, "disable-telemetry enable-telemetry", True),
        ("true", "enable-telemetry disable-telemetry", False),
        (None, "enable-telemetry enable-telemetry", True),
        (None, "enable-telemetry disable-telemetry disable-telemetry", False),
        (None, "disable-telemetry enable-telemetry disable-telemetry", False),
        # the audit log's flag
        (None, "enable-telemetry enable-audit-log", False),
        ("true", "enable-audit-log", False),
        (None, "enable-telemetry disable-audit-log", True),
        (None, "enable-audit-log enable-telemetry disable-audit-log", True),
        (None, "disable-audit-log enable-telemetry enable-audit-log", False),
        # what is between the words
        (None, "enable-telemetry,enable-login", True),
        (None, "enable-login,enable-telemetry", True),
        (None, " enable-login ,\t enable-telemetry\r\n", True),
        (None, "enable-login;enable-telemetry", False),
        (None, "enable-login\u00a0enable-telemetry", False),
        # words that are no flags, or other flags
        (None, "telemetry", False),
        (None, "enable-telemetry-x", False),
        (None, "enable_telemetry", False),
        (None, "enable- telemetry", False),
        (None, "enable-telemetry nonsense enable-", True),
        (None, "+enable-telemetry", False),
        (None, "no-enable-telemetry", False),
        (None, "ENABLE-TELEMETRY", False),
        (None, "enable-Telemetry", False),
        (None, '"enable-telemetry"', False),
        (None, "'enable-telemetry disable-audit-log'", False),
        # an off in upper case or in quotes is no flag of Penpot, and still off here
        ("true", "DISABLE-TELEMETRY", False),
        ("true", "Disable-Telemetry", False),
        ("true", '"disable-telemetry"', False),
        ("true", "'enable-login disable-telemetry'", False),
        (None, "enable-telemetry 'disable-telemetry'", False),
        ("true", "disable-telemetry-x", True),
    ],
)
def test_telemetry_is_active_when_penpot_has_it_on_and_the_audit_log_off(
    enabled: str | None, flags: str | None, active: bool
) -> None:
    environ = {"PENPOT_TELEMETRY_ENABLED": enabled, "PENPOT_FLAGS": flags}
    given = {name: value for name, value in environ.items() if value is not None}
    assert read_settings(given, home=HOME).active is active


@pytest.mark.parametrize("value", ["TRUE", "yes", "on", "True", "2", '"true"', "enabled"])
def test_penpot_s_own_switch_takes_penpot_s_own_words_only(value: str) -> None:
    with pytest.raises(ConfigError, match="PENPOT_TELEMETRY_ENABLED should be true or false"):
        read_settings({"PENPOT_TELEMETRY_ENABLED": value}, home=HOME)


def test_the_last_word_on_a_flag_wins() -> None:
    assert read_flags("enable-a disable-a enable-b enable-b") == {"b"}


def test_there_is_no_default_address_and_no_default_database() -> None:
    settings = read_settings({}, home=HOME)
    assert settings.endpoint is None
    assert settings.database is None


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://db/penpot", {"host": "db", "dbname": "penpot"}),
        ("postgres://db:5433/penpot", {"host": "db", "port": "5433", "dbname": "penpot"}),
        ("jdbc:postgresql://db/penpot", {"host": "db", "dbname": "penpot"}),
        (
            "postgresql://ada:s%40cret@db/penpot?sslmode=require",
            {"user": "ada", "password": "s@cret", "host": "db", "dbname": "penpot", "sslmode": "require"},
        ),
        ("postgresql://a:1,b:2/penpot", {"host": "a,b", "port": "1,2", "dbname": "penpot"}),
        ("postgresql://[::1]:5432/penpot", {"host": "::1", "port": "5432", "dbname": "penpot"}),
        ("postgresql://[::1]/penpot", {"host": "::1", "dbname": "penpot"}),
        (
            "postgresql://ada:p[w]d@db/penpot",
            {"user": "ada", "password": "p[w]d", "host": "db", "dbname": "penpot"},
        ),
        ("postgresql://ada:p[wd@db/penpot", {"user": "ada", "password": "p[wd", "host": "db", "dbname": "penpot"}),
        (
            "postgresql://ada:p\uff20w:d@db/penpot",
            {"user": "ada", "password": "p\uff20w:d", "host": "db", "dbname": "penpot"},
        ),
        ("postgresql://ada:p@w@db/penpot", {"user": "ada", "password": "p@w", "host": "db", "dbname": "penpot"}),
        ("postgresql:///penpot?host=/run/postgresql", {"host": "/run/postgresql", "dbname": "penpot"}),
        ("postgresql://db/penpot?ssl=true", {"host": "db", "dbname": "penpot", "sslmode": "verify-full"}),
        (
            "postgresql://db/penpot?ApplicationName=x&prepareThreshold=0&currentSchema=y",
            {"host": "db", "dbname": "penpot", "application_name": "x", "options": "-csearch_path=y"},
        ),
    ],
)
def test_a_database_address_is_understood_as_penpot_and_its_driver_write_it(uri: str, expected: dict[str, str]) -> None:
    assert parse_database_uri(uri) == expected


def test_database_credentials_come_from_their_own_variables() -> None:
    settings = read_settings(
        {
            "PENPOT_DATABASE_URI": "postgresql://db/penpot",
            "PENPOT_DATABASE_USERNAME": "penpot",
            "PENPOT_DATABASE_PASSWORD": "s@:/?cret",
        },
        home=HOME,
    )
    assert settings.database == {"host": "db", "dbname": "penpot", "user": "penpot", "password": "s@:/?cret"}


@pytest.mark.parametrize(
    "environ",
    [
        {"PENPOT_DATABASE_URI": "mysql://db/penpot"},
        {"PENPOT_DATABASE_URI": "postgresql://db"},
        {"PENPOT_DATABASE_URI": "postgresql://db:port/penpot"},
        {"PENPOT_DATABASE_URI": "postgresql://[::1/penpot"},
        {"PENPOT_DATABASE_URI": "postgresql://db/one/two"},
        {"PENPOT_DATABASE_URI": "postgresql://db/pen\udcffpot"},
        {"PENPOT_TELEMETRY_URI": "http://there/?token=1"},
        {"PENPOT_TELEMETRY_URI": "http://there/#part"},
        {"PENPOT_TELEMETRY_URI": "ftp://there/"},
        {"PENPOT_TELEMETRY_URI": "http://"},
        {"PENPOT_TELEMETRY_URI": "http://there:port/"},
        {"PENPOT_TELEMETRY_URI": "http://the re/"},
        {"PENPOT_TELEMETRY_URI": "http://[::1/"},
        {"PENPOT_TELEMETRY_ENABLED": "perhaps"},
        {"PENPOT_TELEMETRY_PAGE_ROWS": "10001"},
        {"PENPOT_TELEMETRY_PAGE_ROWS": "0"},
        {"PENPOT_TELEMETRY_CAP_ROWS": "-1"},
        {"PENPOT_TELEMETRY_READ_TIMEOUT": "nan"},
        {"PENPOT_TELEMETRY_READ_TIMEOUT": "0"},
        {"PENPOT_TELEMETRY_REQUEST_TIMEOUT": "-1"},
        {"PENPOT_TELEMETRY_RECEIPTS": "always"},
        {"PENPOT_TELEMETRY_LEGACY_REPORT": "sometimes"},
        {"PENPOT_TELEMETRY_INSTANCE_ID": "me"},
        {"PENPOT_TELEMETRY_PSEUDONYM_KEY": "short"},
        {"PENPOT_TELEMETRY_PSEUDONYM_KEY_FILE": "/does/not/exist"},
    ],
)
def test_a_setting_that_cannot_be_understood_is_named(environ: dict[str, str]) -> None:
    (name,) = environ
    with pytest.raises(ConfigError, match=name):
        read_settings(environ, home=HOME)


def test_an_address_shows_no_credentials() -> None:
    endpoint = parse_endpoint("https://ada:s%3Acret@there:8443/in")
    assert endpoint == Endpoint("https://there:8443/in", ("ada", "s:cret"))
    assert "cret" not in repr(endpoint)


@pytest.mark.parametrize(
    "environ",
    [
        {"PENPOT_DATABASE_URI": "postgresql://ada:canary/x@db/penpot"},
        {"PENPOT_DATABASE_URI": "postgresql://ada:canary#x@db/penpot"},
        {"PENPOT_DATABASE_URI": "postgresql://ada:canary@db:canary/penpot"},
        {"PENPOT_TELEMETRY_URI": "https://ada:[canary@there/"},
        {"PENPOT_TELEMETRY_URI": "https://ada:can\uff20ary@there/"},
        {"PENPOT_TELEMETRY_URI": "https://there/?token=canary"},
        {"PENPOT_TELEMETRY_URI": "https://there/", "PENPOT_TELEMETRY_TOKEN": "canary\nX-Other: 1"},
        {"PENPOT_TELEMETRY_URI": "https://there/", "PENPOT_TELEMETRY_TOKEN": "can\u20acary"},
    ],
)
def test_a_message_names_the_setting_and_shows_no_secret(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=list(environ)[-1]) as refusal:
        read_settings(environ, home=HOME)
    assert "can" not in str(refusal.value).replace("cannot", "")
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_file_of_authorities_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    environ = {"PENPOT_TELEMETRY_URI": "https://there/", name: str(tmp_path / "none.pem")}
    with pytest.raises(ConfigError, match=f"{name}.*FileNotFoundError"):
        read_settings(environ, home=HOME)
    (tmp_path / "none.pem").touch()
    assert read_settings(environ, home=HOME).endpoint is not None
    del environ["PENPOT_TELEMETRY_URI"]
    (tmp_path / "none.pem").unlink()
    assert read_settings(environ, home=HOME).endpoint is None


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_socks_proxy_says_which_library_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])  # nothing more can be found, as in a bare installation
    environ = {"PENPOT_TELEMETRY_URI": "https://there/", name: "socks5h://127.0.0.1:1080"}
    with pytest.raises(ConfigError, match=f"{name}.*requests\\[socks\\]"):
        read_settings(environ, home=HOME)
    for spared in ({"NO_PROXY": "there"}, {name: "http://127.0.0.1:3128"}, {"PENPOT_TELEMETRY_URI": ""}):
        read_settings(environ | spared, home=HOME)


def test_settings_can_be_shown_without_their_secrets() -> None:
    settings = read_settings(
        {
            "PENPOT_DATABASE_URI": "postgresql://ada:canary@db/penpot",
            "PENPOT_TELEMETRY_URI": "https://ada:canary@there/",
            "PENPOT_TELEMETRY_TOKEN": "canary",
            "PENPOT_TELEMETRY_PSEUDONYM_KEY": "canary" * 8,
        },
        home=HOME,
    )
    assert "canary" not in repr(settings)


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    settings = read_settings(
        {"PENPOT_TELEMETRY_URI": "http://there/", "PENPOT_TELEMETRY_TOKEN_FILE": str(secret)}, home=HOME
    )
    assert settings.endpoint == Endpoint("http://there/", None, "s3cret")


@pytest.mark.parametrize(
    ("environ", "root", "expected"),
    [
        ({}, False, "/home/ada/.local/share/penpot-telemetry"),
        ({}, True, "/var/lib/penpot-telemetry"),
        ({"XDG_DATA_HOME": "/data"}, False, "/data/penpot-telemetry"),
        ({"XDG_DATA_HOME": "/data", "PENPOT_TELEMETRY_DATA": "/own"}, True, "/own"),
    ],
)
def test_the_data_folder_is_one_of_its_own(environ: dict[str, str], root: bool, expected: str) -> None:
    assert read_settings(environ, home=HOME, root=root).data_dir == Path(expected)


def test_a_user_without_a_home_gets_the_system_s_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54_321)  # the password file knows no such user
    assert read_settings({}).data_dir == Path("/var/lib/penpot-telemetry")
    with pytest.raises(ConfigError, match="PENPOT_TELEMETRY_DATA"):
        read_settings({"PENPOT_TELEMETRY_DATA": "~/data"})


def test_numbers_and_ids_are_read() -> None:
    settings = read_settings(
        {
            "PENPOT_TELEMETRY_PAGE_ROWS": "10",
            "PENPOT_TELEMETRY_CAP_ROWS": "20",
            "PENPOT_TELEMETRY_RETENTION_DAYS": "30",
            "PENPOT_TELEMETRY_CONNECT_TIMEOUT": "1.5",
            "PENPOT_TELEMETRY_INSTANCE_ID": "b6d7c1f4-0000-4000-8000-000000000001",
            "PENPOT_TELEMETRY_VERSION": "2.18.0",
        },
        home=HOME,
    )
    assert (settings.batch_rows, settings.cap_rows, settings.retention_days) == (10, 20, 30)
    assert settings.connect_timeout == 1.5
    assert settings.instance_id == UUID("b6d7c1f4-0000-4000-8000-000000000001")
    assert settings.version == "2.18.0"


def test_what_nobody_sets_is_neither_a_version_nor_a_demand_for_receipts_nor_a_report() -> None:
    settings = read_settings({}, home=HOME)
    assert (settings.version, settings.receipts, settings.legacy_report) == (None, "learned", False)
    assert settings.request_timeout == 120


def test_receipts_the_report_and_the_time_of_a_request_can_be_set() -> None:
    settings = read_settings(
        {
            "PENPOT_TELEMETRY_RECEIPTS": "required",
            "PENPOT_TELEMETRY_LEGACY_REPORT": "true",
            "PENPOT_TELEMETRY_REQUEST_TIMEOUT": "30",
        },
        home=HOME,
    )
    assert (settings.receipts, settings.legacy_report, settings.request_timeout) == ("required", True, 30)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "signing.pem"
    path.write_bytes(signature.make_key())
    path.chmod(0o600)
    return path


def test_a_signing_key_is_read_from_its_file_and_not_shown(key_file: Path) -> None:
    settings = read_settings({"PENPOT_TELEMETRY_SIGNING_KEY_FILE": str(key_file)}, home=HOME)
    assert settings.signing_key == signature.read_key(key_file.read_bytes())
    assert repr(settings.signing_key) not in repr(settings)


@pytest.mark.parametrize(("mode", "is_taken"), [(0o600, True), (0o440, True), (0o604, False), (0o620, False)])
def test_a_signing_key_that_everybody_may_read_is_refused(key_file: Path, mode: int, is_taken: bool) -> None:
    key_file.chmod(mode)
    with nullcontext() if is_taken else pytest.raises(ConfigError, match="chmod 600"):
        read_settings({"PENPOT_TELEMETRY_SIGNING_KEY_FILE": str(key_file)}, home=HOME)


def _other_key(*, passphrase: bytes | None = None) -> bytes:
    kept = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    key = ed25519.Ed25519PrivateKey.generate() if passphrase else x25519.X25519PrivateKey.generate()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kept)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "no private key in PEM"),
        (b"canary", "no private key in PEM"),
        (bytes(range(256)), "no private key in PEM"),
        (_other_key(), "another kind than Ed25519"),
        (_other_key(passphrase=b"canary"), "a passphrase"),
    ],
)
def test_a_file_that_holds_no_signing_key_is_refused(key_file: Path, text: bytes, found: str) -> None:
    key_file.write_bytes(text)
    with pytest.raises(ConfigError, match=f"PENPOT_TELEMETRY_SIGNING_KEY_FILE.*{found}") as refusal:
        read_settings({"PENPOT_TELEMETRY_SIGNING_KEY_FILE": str(key_file)}, home=HOME)
    assert "canary" not in str(refusal.value)


def test_a_signing_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"FileNotFoundError.*keygen"):
        read_settings({"PENPOT_TELEMETRY_SIGNING_KEY_FILE": str(tmp_path / "none")}, home=HOME)


@pytest.mark.parametrize(
    ("url", "is_shown"),
    [
        ("http://receiver.example/", True),
        ("http://192.0.2.7:6070/", True),
        ("https://receiver.example/", False),
        ("http://127.0.0.1:6070/", False),
        ("http://localhost/", False),
        ("http://[::1]:6070/", False),
    ],
)
def test_a_secret_on_its_way_through_a_network_is_told(url: str, is_shown: bool) -> None:
    assert bool(Endpoint(url, token="t" * 16).warnings) is is_shown
    assert bool(Endpoint(url, auth=("a", "b")).warnings) is is_shown
    assert not Endpoint(url).warnings
