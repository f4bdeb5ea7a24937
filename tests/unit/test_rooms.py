"""The plan of the house: who may import whom. A room that reaches up or across breaks it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SENDER = {
    "penpot_telemetry.errors": set[str](),
    "penpot_telemetry.wire": {"penpot_telemetry.errors"},
    "penpot_telemetry.events": {"penpot_telemetry.errors"},
    "penpot_telemetry.config": {"penpot_telemetry.errors", "penpot_telemetry.wire"},
    "penpot_telemetry.vocabulary": set(),
    "penpot_telemetry.user_agents": {"penpot_telemetry.vocabulary"},
    "penpot_telemetry.context_values": {
        "penpot_telemetry.errors",
        "penpot_telemetry.events",
        "penpot_telemetry.user_agents",
        "penpot_telemetry.vocabulary",
        "penpot_telemetry.wire",
    },
}
LOW = set(SENDER)
STAGES = ("anonymise", "store", "outbox", "send", "embedded", "simulate")
SENDER |= {f"penpot_telemetry.{stage}": LOW for stage in STAGES}
SENDER["penpot_telemetry.pipeline"] = LOW | {f"penpot_telemetry.{stage}" for stage in STAGES}
EDGES = SENDER["penpot_telemetry.pipeline"] | {"penpot_telemetry.pipeline"}
SENDER["penpot_telemetry.demo"] = EDGES
SENDER["penpot_telemetry.run"] = EDGES | {"penpot_telemetry.demo", "penpot_telemetry.cli"}
SENDER["penpot_telemetry.cli"] = EDGES | {"penpot_telemetry.demo", "penpot_telemetry.run"}


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text())


SENDER_TREES = dict(modules("penpot_telemetry"))
RECEIVER_TREES = dict(modules("receiver"))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room_of(module: str, rooms: dict[str, set[str]]) -> str | None:
    return next((room for room in rooms if module == room or module.startswith(room + ".")), None)


@pytest.mark.parametrize("module", sorted(SENDER_TREES))
def test_imports_of_the_sender_go_down_only(module: str) -> None:
    tree = SENDER_TREES[module]
    room = room_of(module, SENDER)
    for name in imported(tree):
        assert not name.startswith("receiver"), f"{module} imports {name}: the demo starts it as a process"
        target = room_of(name, SENDER)
        if room and target and target != room:
            assert target in SENDER[room], f"{module} imports {name}"


@pytest.mark.parametrize("module", sorted(RECEIVER_TREES))
def test_the_receiver_knows_the_wire_the_events_and_the_rule_for_their_context_only(module: str) -> None:
    tree = RECEIVER_TREES[module]
    allowed = tuple(f"penpot_telemetry.{name}" for name in ("wire", "events", "errors", "context_values"))
    for name in imported(tree):
        if name.startswith("penpot_telemetry"):
            assert name.startswith(allowed), f"{module} imports {name}"


def test_the_wire_does_no_io_and_reads_no_clock() -> None:
    banned = {"os", "socket", "time", "pathlib", "requests", "psycopg", "duckdb", "subprocess", "threading.Timer"}
    for module, tree in modules("penpot_telemetry/wire"):
        for name in imported(tree):
            assert name.split(".")[0] not in banned and "datetime.now" not in name, f"{module} imports {name}"


def test_every_room_has_a_first_line_that_says_what_it_is() -> None:
    for package in ("penpot_telemetry", "receiver"):
        for module, tree in modules(package):
            assert ast.get_docstring(tree), f"{module} opens without a word"
