from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

from penpot_telemetry.config import Endpoint, parse_database_uri, parse_endpoint, read_flags, read_settings
from penpot_telemetry.errors import ConfigError
from penpot_telemetry.wire import signature

HOME = Path("/home/ada")


@pytest.mark.parametrize(
    ("environ", "active"),
    [
        ({}, False),
        ({"PENPOT_FLAGS": "enable-telemetry"}, True),
        ({"PENPOT_FLAGS": "enable-telemetry disable-audit-log"}, True),
        ({"PENPOT_FLAGS": "enable-telemetry enable-audit-log"}, False),
        ({"PENPOT_FLAGS": "enable-audit-log enable-telemetry disable-audit-log"}, True),
        ({"PENPOT_FLAGS": "enable-telemetry disable-telemetry"}, False),
        ({"PENPOT_FLAGS": "disable-telemetry enable-telemetry"}, True),
        ({"PENPOT_FLAGS": "enable-telemetry,enable-login"}, True),
        ({"PENPOT_FLAGS": "enable-telemetry-x telemetry"}, False),
        ({"PENPOT_TELEMETRY_ENABLED": "true"}, True),
        ({"PENPOT_TELEMETRY_ENABLED": "false"}, False),
        ({"PENPOT_TELEMETRY_ENABLED": ""}, False),
        ({"PENPOT_TELEMETRY_ENABLED": "true", "PENPOT_FLAGS": "enable-audit-log"}, False),
    ],
)
def test_telemetry_is_active_when_it_is_on_and_the_audit_log_is_off(environ: dict[str, str], active: bool) -> None:
    assert read_settings(environ, home=HOME).active is active


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
    endpoint = parse_endpoint("https://ada:s%3Acret@there:8443/in?x=1#part")
    assert endpoint == Endpoint("https://there:8443/in?x=1", ("ada", "s:cret"))
    assert "cret" not in repr(endpoint)


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
    assert (settings.page_rows, settings.cap_rows, settings.retention_days) == (10, 20, 30)
    assert settings.connect_timeout == 1.5
    assert settings.instance_id == UUID("b6d7c1f4-0000-4000-8000-000000000001")
    assert settings.version == "2.18.0"


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
