"""What a person copies to run this in production is consistent: images, commands, settings, ports, secrets, rights."""

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from penpot_telemetry import config
from penpot_telemetry.cli import commands
from receiver.server.settings import Settings
from receiver.storage.paths import places_beside

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SENDER, RECEIVER = COMPOSE["services"]["penpot-telemetry-sender"], COMPOSE["services"]["penpot-telemetry"]
MANIFESTS: Sequence[Mapping[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
SENDERS_FILES = [
    ROOT / "compose.yaml",
    ROOT / "Dockerfile",
    ROOT / "docs/beside-a-penpot.md",
    *sorted(DEPLOY.iterdir()),
]


def manifest(kind: str) -> Mapping[str, Any]:
    """The only manifest of a kind."""
    (found,) = [one for one in MANIFESTS if one["kind"] == kind]
    return found


def pods() -> Mapping[str, Mapping[str, Any]]:
    """The pod template of each of the two parts."""
    job: Mapping[str, Any] = manifest("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    return {"receiver": manifest("Deployment")["spec"]["template"], "sender": job}


def container(part: str) -> Mapping[str, Any]:
    """The only container of a pod."""
    (found,) = pods()[part]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def stages() -> Mapping[str, Mapping[str, str]]:
    """The Dockerfile's stages, each with the last value of each of its instructions."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found[rest.rpartition(" AS ")[2]] = {}
        elif word:
            found[list(found)[-1]][word] = rest.strip()
    return found


# -- commands --------------------------------------------------------------------------------------------------------


def senders_commands() -> Iterator[tuple[str, Sequence[str]]]:
    """Every command line of the sender, and where it stands."""
    yield "Dockerfile", yaml.safe_load(stages()["sender"]["CMD"])
    yield "Dockerfile, health", yaml.safe_load(stages()["sender"]["HEALTHCHECK"].partition("CMD ")[2])[1:]
    yield "compose.yaml", SENDER["command"]
    yield "compose.yaml, health", SENDER["healthcheck"]["test"][2:]
    yield "kubernetes.yaml", container("sender")["args"]
    for path in (DEPLOY / "cron.example", DEPLOY / "penpot-telemetry-send.service", ROOT / "docs/beside-a-penpot.md"):
        text = re.sub(r"\s+[>#].*", "", path.read_text(), flags=re.MULTILINE)
        for line in re.findall(r"^(?:.*/bin/)?penpot-telemetry ([a-z].*)$", text, re.MULTILINE):
            yield path.name, shlex.split(line)
    for line in re.findall(
        r"penpot-telemetry-sender (grants \w+|preview|status)\b", (ROOT / "compose.yaml").read_text()
    ):
        yield "compose.yaml, comment", line.split()


@pytest.mark.parametrize(("place", "words"), list(senders_commands()), ids=str)
def test_every_command_of_the_sender_is_one(place: str, words: Sequence[str]) -> None:  # noqa: ARG001  names the case
    group: click.Command = commands
    context = click.Context(commands)
    rest = list(words)
    while isinstance(group, click.Group) and rest:
        found = group.get_command(context, rest.pop(0))
        assert found is not None, words
        group = found
    group.make_context(words[0], rest, resilient_parsing=False)


def test_the_daemon_and_its_health_agree_on_the_file_and_the_file_can_be_written() -> None:
    run, health = SENDER["command"], SENDER["healthcheck"]["test"]
    beat = run[run.index("--heartbeat") + 1]
    assert health[health.index("--heartbeat") + 1] == beat
    assert yaml.safe_load(stages()["sender"]["CMD"]) == run
    assert beat.rpartition("/")[0] in SENDER["tmpfs"]


def test_a_line_of_the_crontab_has_a_time_a_user_and_the_command_of_the_unit() -> None:
    text = (DEPLOY / "cron.example").read_text()
    lines = [line for line in text.splitlines() if line and not re.match(r"#|[A-Z]+=", line)]
    (unit,) = re.findall(r"^ExecStart=(\S+)", (DEPLOY / "penpot-telemetry-send.service").read_text(), re.MULTILINE)
    for line in lines:
        *times, user, command = line.split(maxsplit=6)
        assert all(re.fullmatch(r"(\d+|\*)(/\d+)?", time) for time in times[:5]) and len(times) == 5
        assert user == "penpot-telemetry"
        assert f"exec {unit} " in command and "%" not in command  # cron ends a command at a percent sign


# -- settings --------------------------------------------------------------------------------------------------------


def known_settings() -> set[str]:
    """The variables that the settings code names. One that holds a secret may be a file's name, too."""
    modules = ("config", "endpoint", "environment", "database_uri")
    text = "".join((ROOT / "penpot_telemetry" / f"{module}.py").read_text() for module in modules)
    names = set(re.findall(r'"(PENPOT_[A-Z_]+)"', text))
    return names | {f"{name}_FILE" for name in names if re.search(r"PASSWORD|TOKEN|KEY", name)}


@pytest.mark.parametrize("path", SENDERS_FILES, ids=lambda path: path.name)
def test_the_settings_of_the_sender_exist(path: Path) -> None:
    foreign = {"PENPOT_TELEMETRY_REFERER", "PENPOT_PUBLIC_URI"}  # Penpot's own, which the sender does not read
    named = set(re.findall(r"\bPENPOT_[A-Z_]+\b", path.read_text()))
    assert named - foreign <= known_settings(), named - foreign - known_settings()


def environment_of(part: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a compose service or of a container."""
    if "environment" in part:
        return dict(part["environment"])
    return {one["name"]: one["value"] for one in part["env"]}


@pytest.mark.parametrize("part", [SENDER, container("sender")], ids=["compose", "kubernetes"])
def test_the_environment_of_the_sender_is_read_as_meant(part: Mapping[str, Any], tmp_path: Path) -> None:
    environ = environment_of(part)
    name = Path(environ["PENPOT_DATABASE_PASSWORD_FILE"]).name
    (tmp_path / name).write_text("a password of tests\n")
    settings = config.read_settings(environ | {"PENPOT_DATABASE_PASSWORD_FILE": str(tmp_path / name)}, home=tmp_path)
    assert settings.active
    assert settings.endpoint is not None and settings.database is not None
    assert settings.database["user"] == "telemetry" and settings.database["dbname"] == "penpot"
    assert settings.database["password"] == "a password of tests"  # noqa: S105  of the tests only
    assert settings.database["host"].startswith("penpot-postgres")


# -- images, ports, secrets ------------------------------------------------------------------------------------------


def test_an_image_is_one_of_the_dockerfile_by_the_version_of_this_project() -> None:
    used = {
        "receiver": [RECEIVER["image"], container("receiver")["image"]],
        "sender": [SENDER["image"], container("sender")["image"]],
    }
    for stage, images in used.items():
        assert stage in stages() and set(images) == {f"penpot-telemetry-{stage}:{VERSION}"}
    assert (RECEIVER["build"]["target"], SENDER["build"]["target"]) == ("receiver", "sender")
    built = re.findall(r"-t (\S+)", (ROOT / "Dockerfile").read_text())
    assert set(built) == {image for images in used.values() for image in images}
    assert list(stages())[-1] == "receiver"  # what a build without a target makes
    for path in (ROOT / "compose.yaml", ROOT / "Dockerfile", DEPLOY / "kubernetes.yaml"):
        assert ":latest" not in path.read_text()


def test_all_agree_on_the_port_and_the_sender_asks_it() -> None:
    port = int(stages()["receiver"]["EXPOSE"])
    assert f"RECEIVER_PORT={port}" in stages()["receiver"]["ENV"]
    assert RECEIVER["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert environment_of(SENDER)["PENPOT_TELEMETRY_URI"] == f"http://penpot-telemetry:{port}/"
    (named,) = container("receiver")["ports"]
    service = manifest("Service")
    (published,) = service["spec"]["ports"]
    assert named["containerPort"] == published["port"] == port and published["targetPort"] == named["name"]
    assert environment_of(container("sender"))["PENPOT_TELEMETRY_URI"] == (
        f"http://{service['metadata']['name']}:{port}/"
    )
    probes = [container("receiver")[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/healthz", "http"),
        ("/healthz", "http"),
        ("/readyz", "http"),
    ]


def test_a_service_finds_its_pods_and_a_deployment_its_own() -> None:
    labels = pods()["receiver"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert pods()["sender"]["metadata"]["labels"] != labels


@pytest.mark.parametrize("service", [SENDER, RECEIVER], ids=["sender", "receiver"])
def test_a_secret_of_the_compose_file_is_a_file_that_is_given(service: Mapping[str, Any]) -> None:
    files = {value for name, value in service["environment"].items() if name.endswith("_FILE")}
    assert files == {f"/run/secrets/{name}" for name in service["secrets"]}
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])
    text = (ROOT / "compose.yaml").read_text()
    assert all(f"> secrets/{name}" in text for name in service["secrets"])  # the head says how it is made


@pytest.mark.parametrize("part", ["sender", "receiver"])
def test_a_secret_of_the_cluster_is_mounted_where_it_is_read(part: str) -> None:
    volumes = {volume["name"]: volume for volume in pods()[part]["spec"]["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container(part)["volumeMounts"]}
    assert len(mounts) == len(volumes)
    files = [Path(value) for name, value in environment_of(container(part)).items() if name.endswith("_FILE")]
    text = (DEPLOY / "kubernetes.yaml").read_text()
    for file in files:
        secret = mounts[str(file.parent)]["secret"]
        assert secret["defaultMode"] & 0o007 == 0
        assert re.search(rf"create secret generic .*{secret['secretName']} (?:\\\n#\s+)?--from-file={file.name}=", text)
    assert files and "stringData" not in text


# -- rights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", [SENDER, RECEIVER], ids=["sender", "receiver"])
def test_a_service_of_the_compose_file_has_the_least_rights(service: Mapping[str, Any]) -> None:
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("part", ["sender", "receiver"])
def test_a_pod_has_the_least_rights_and_the_user_of_its_image(part: str) -> None:
    pod, security = pods()[part]["spec"], pods()[part]["spec"]["securityContext"]
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == stages()[part]["USER"]
    assert security["runAsNonRoot"] and security["fsGroup"] == security["runAsGroup"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container(part)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container(part)["resources"]["limits"]


def test_the_head_of_the_compose_file_gives_each_secret_to_the_user_who_reads_it() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for stage, service in (("sender", SENDER), ("receiver", RECEIVER)):
        (name,) = service["secrets"]
        assert f"chown {stages()[stage]['USER']} secrets/{name}" in text


def test_the_sender_reaches_penpots_network_and_a_receiver_alone_needs_none() -> None:
    assert set(SENDER["networks"]) == {"default", "penpot"} and COMPOSE["networks"]["penpot"]["external"]
    assert "networks" not in RECEIVER and "profiles" not in RECEIVER and SENDER["profiles"]


def test_the_receiver_has_one_process_and_the_time_to_stop() -> None:
    spec = manifest("Deployment")["spec"]
    assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}
    patience = spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert patience > Settings(places_beside(Path("w"))).shutdown_seconds
    (claim,) = [one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "PersistentVolumeClaim"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": claim}} in spec["template"]["spec"]["volumes"]


def test_a_pass_in_the_cluster_ends_before_the_next_begins() -> None:
    spec = manifest("CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"\d+ \*/3 \* \* \*", spec["schedule"])
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] <= 3 * 3600
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
