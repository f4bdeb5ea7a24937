"""The codec against the reference on a JVM: it reads what we write, we read what it writes, types and bytes.

Needs java, clojure and data.fressian (Debian: `apt-get install clojure libdata-fressian-clojure`). Without them the
tests are skipped; PENPOT_TELEMETRY_REQUIRE_PEER=1 makes that a failure. PENPOT_TELEMETRY_PEER_JARS names the folder of
the jars where it is not Debian's.
"""

import json
import os
import random
import shutil
import struct
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penpot_telemetry.wire import blob
from penpot_telemetry.wire.fressian import (
    Array,
    BigDec,
    BigInt,
    Char,
    Date,
    Float32,
    Instant,
    JavaList,
    JavaMap,
    JavaSet,
    Keyword,
    LinkedMap,
    LinkedSet,
    Ratio,
    Regex,
    Set,
    Symbol,
    Tagged,
    Uri,
    Value,
    dumps,
    loads,
)
from penpot_telemetry.wire.fressian.values import as_key, from_key

pytestmark = pytest.mark.peer

DATA = Path(__file__).parents[1] / "data"
SCRIPT = Path(__file__).with_name("peer.clj")
JARS = Path(os.environ.get("PENPOT_TELEMETRY_PEER_JARS", "/usr/share/java"))
NEEDED = [JARS / f"{name}.jar" for name in ("clojure", "data.fressian", "fressian", "spec.alpha", "core.specs.alpha")]


@pytest.fixture(scope="module")
def peer() -> Callable[..., list[list[str]]]:
    """Runs the script in a mode and gives its lines, split at the tabs."""
    missing = [path.name for path in NEEDED if not path.exists()] + ([] if shutil.which("java") else ["java"])
    if missing:
        message = f"no JVM peer ({', '.join(missing)} missing): apt-get install clojure libdata-fressian-clojure"
        if os.environ.get("PENPOT_TELEMETRY_REQUIRE_PEER") == "1":
            pytest.fail(message)
        pytest.skip(message)

    def run(*arguments: str, lines: list[bytes] | None = None) -> list[list[str]]:
        done = subprocess.run(
            ["java", "-cp", ":".join(map(str, NEEDED)), "clojure.main", str(SCRIPT), *arguments],  # noqa: S607
            input="".join(f"{data.hex()}\n" for data in lines or []),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    return run


# The typed text of a value: the same as in peer.clj, where it is explained.


def text(value: Value) -> str:
    value = from_key(value)
    return TEXT[type(value)](value)


def units(string: str) -> str:
    return string.encode("utf-16-be", "surrogatepass").hex()


def qualified(value: Keyword | Symbol) -> str:
    return f"{'-' if value.ns is None else units(value.ns)}/{units(value.name)}"


def texts(items: Any) -> str:
    return " ".join(map(text, items))


def unordered(items: Any) -> str:
    return " ".join(sorted(map(text, items)))


def entries(mapping: dict[Value, Value]) -> list[str]:
    return [f"{text(key)} {text(entry)}" for key, entry in mapping.items()]


def bits(number: float) -> str:
    return "7ff8000000000000" if number != number else struct.pack(">d", number).hex()  # noqa: PLR0124


TEXT: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "nil",
    bool: lambda v: "true" if v else "false",
    int: lambda v: f"i{v}",
    float: lambda v: f"d{bits(v)}",
    Float32: lambda v: f"f{v.bits.hex()}",
    str: lambda v: f"s{units(v)}",
    bytes: lambda v: f"b{v.hex()}",
    Char: lambda v: f"c{ord(v.value):04x}",
    Keyword: lambda v: f"k{qualified(v)}",
    Symbol: lambda v: f"y{qualified(v)}",
    BigInt: lambda v: f"n{v.value}",
    BigDec: lambda v: f"m{v.unscaled}e{v.scale}",
    Ratio: lambda v: f"r{v.numerator}/{v.denominator}",
    uuid.UUID: lambda v: f"u{v}",
    Date: lambda v: f"t{v.ms}",
    Instant: lambda v: f"T{v.ms}",
    Regex: lambda v: f"x{units(v.pattern)}",
    Uri: lambda v: f"l{units(v.value)}",
    list: lambda v: f"[{texts(v)}]",
    tuple: lambda v: f"({texts(v)})",
    JavaList: lambda v: f"<{texts(v)}>",
    Set: lambda v: f"#{{{unordered(v)}}}",
    LinkedSet: lambda v: f"L#{{{texts(v)}}}",
    JavaSet: lambda v: f"J#{{{unordered(v)}}}",
    dict: lambda v: f"{{{' '.join(sorted(entries(v)))}}}",
    LinkedMap: lambda v: f"L{{{' '.join(entries(v))}}}",
    JavaMap: lambda v: f"J{{{' '.join(sorted(entries(v)))}}}",
    Tagged: lambda v: f"!{text(v.tag)}({texts(v.value)})",
    Array: lambda v: f"@{v.of}[{texts(v.items)}]",
}


# Values: a rich set by hand, and as many random ones as it takes

LENGTHS = (0, 1, 7, 8, 63, 64, 4095, 4096, 21_845, 21_846, 65_535, 65_536, 65_537, 65_544, 131_070, 131_072, 200_000)
BY_HAND: list[Value] = [
    *(sign * 2**power + step for power in range(63) for sign in (1, -1) for step in (-1, 0, 1)),
    *(-(2**63), 2**63 - 1, 0.0, 1.0, -1.0, 0.5, 5e-324, 1.7976931348623157e308, float("inf"), float("nan")),
    *("y" * length for length in LENGTHS),
    *("é" * length for length in LENGTHS),
    *("€" * length for length in LENGTHS),
    *("a" + "😀" * length for length in LENGTHS),
    *(bytes(length) for length in LENGTHS),
    "\ud83d",
    "\ude00\ud83d",
    "\x00\x7f\x80߿ࠀ￿",
    *(BigInt(sign * 2**power + step) for power in (7, 8, 63, 64, 100) for sign in (1, -1) for step in (-1, 0)),
    [{Keyword(f"key-{index % 70}", "ns" if index % 3 else None): index} for index in range(300)],
    [Tagged(f"x/{index % 20}", (index,)) for index in range(60)],
    [Tagged("sym", (None, "a")), Tagged("key", ("n", "a")), Tagged("x/nested", (Tagged("x/nested", (1,)),))],
    [{index * 1000: index, float(index) + 0.25: index, f"{index}": index} for index in range(-9, 9)] * 3,
    [{as_key(True): 1, as_key(False): 2, None: 3, "": 4, 0: 5, as_key([1]): 6, as_key({"a": 1}): 7}] * 2,
    LinkedMap({Keyword("z"): 1, Keyword("a"): LinkedSet([3, 1, 2])}),
    {Keyword(f"k{index}"): index for index in range(100)},
    Set(Keyword(f"k{index}") for index in range(100)),
    [[[[[[[[[[{}]]]]]]]]]],
]


def any_name(dice: random.Random) -> str:
    return "".join(dice.choice("abcdefgh-é€") for _ in range(dice.randrange(1, 9)))


def any_long(dice: random.Random) -> int:
    return dice.randrange(-(2**63), 2**63) >> dice.randrange(64)


def any_scalar(dice: random.Random) -> Value:
    makers: list[Callable[[], Value]] = [
        lambda: None,
        lambda: dice.random() < 0.5,
        lambda: any_long(dice),
        lambda: dice.choice([0.0, 1.0, dice.gauss(0, 1e9), float(any_long(dice))]),
        lambda: Float32(dice.gauss(0, 1e9)),
        lambda: "".join(dice.choice("ab\x00é€漢😀\ud83d￿") for _ in range(dice.randrange(12))),
        lambda: dice.randbytes(dice.randrange(20)),
        lambda: Char(chr(dice.randrange(0x10000))),
        lambda: Keyword(any_name(dice), dice.choice([None, any_name(dice)])),
        lambda: Symbol(any_name(dice), dice.choice([None, any_name(dice)])),
        lambda: BigInt(any_long(dice) * any_long(dice)),
        lambda: BigDec(any_long(dice) * any_long(dice), dice.randrange(-30, 30)),
        lambda: Ratio(any_long(dice), dice.randrange(1, 2**62)),
        lambda: uuid.UUID(int=dice.getrandbits(128)),
        lambda: Date(any_long(dice)),
        lambda: Instant(any_long(dice)),
        lambda: Regex(any_name(dice)),
        lambda: Uri(f"https://penpot.app/{dice.randrange(999)}"),
        lambda: Array("long", tuple(any_long(dice) for _ in range(dice.randrange(5)))),
        lambda: Array("int", tuple(dice.randrange(-(2**31), 2**31) for _ in range(dice.randrange(5)))),
        lambda: Array("boolean", tuple(dice.random() < 0.5 for _ in range(dice.randrange(5)))),
        lambda: Array("float", tuple(Float32(dice.gauss(0, 1)) for _ in range(dice.randrange(5)))),
        lambda: Array("double", tuple(dice.gauss(0, 1) for _ in range(dice.randrange(5)))),
    ]
    return dice.choice(makers)()


def any_key(dice: random.Random) -> Value:
    """A key that Clojure and Java compare alike."""
    makers: list[Callable[[], Value]] = [
        lambda: Keyword(any_name(dice), dice.choice([None, any_name(dice)])),
        lambda: any_name(dice),
        lambda: any_long(dice),
        lambda: dice.random() < 0.5,
        lambda: dice.randrange(10**6) + 0.5,
        lambda: uuid.UUID(int=dice.getrandbits(128)),
        lambda: [any_long(dice), any_name(dice)],
        lambda: {Keyword(any_name(dice)): any_long(dice)},
    ]
    return as_key(dice.choice(makers)())


KINDS: list[Any] = [list, list, tuple, JavaList, dict, dict, dict, LinkedMap, JavaMap, Set, LinkedSet, JavaSet, 0, 1]


def any_value(dice: random.Random, depth: int) -> Value:
    if depth == 0 or dice.random() < 0.3:
        return any_scalar(dice)
    items = [any_value(dice, depth - 1) for _ in range(dice.choice([0, 1, 2, 3, 5, 7, 8, 9, 30]))]
    entries = {any_key(dice): item for item in items}
    kind = dice.choice(KINDS)
    if kind == 0:
        return Tagged(f"x/{len(items)}", tuple(items))
    if kind == 1:
        return Array("object", tuple(items))
    if kind in {dict, LinkedMap, JavaMap}:
        return kind(entries)
    if kind in {Set, LinkedSet, JavaSet}:
        return kind(map(from_key, entries))
    return kind(items)


def at_random() -> list[Value]:
    return [any_value(random.Random(seed), 4) for seed in range(400)]


def keeps_order(value: Value) -> bool:
    """Whether the reference writes its entries in the order in which it read them."""
    value = from_key(value)
    if isinstance(value, JavaMap | JavaSet) or type(value) is Set:
        few = len(value) < 2
    else:
        few = isinstance(value, LinkedMap) or not isinstance(value, dict) or len(value) <= 8
    if isinstance(value, dict):
        return few and all(keeps_order(key) and keeps_order(entry) for key, entry in value.items())
    if isinstance(value, Tagged | Array):
        return all(map(keeps_order, value.value if isinstance(value, Tagged) else value.items))
    return few and (not isinstance(value, list | tuple | Set) or all(map(keeps_order, value)))


@pytest.mark.parametrize("make", [lambda: BY_HAND, at_random], ids=["by-hand", "random"])
def test_the_reference_reads_what_we_write_and_writes_the_same(
    peer: Callable[..., list[list[str]]], make: Callable[[], list[Value]]
) -> None:
    values = make()
    messages = [dumps(value) for value in values]
    answers = peer("decode", lines=messages)
    assert len(answers) == len(values)
    for value, message, (read, written) in zip(values, messages, answers, strict=True):
        assert read == text(value)
        if keeps_order(value):
            assert written == message.hex()
        else:
            assert text(loads(bytes.fromhex(written))) == read


@pytest.mark.parametrize("seed", [1, 2])
def test_we_read_what_the_reference_writes_and_write_the_same(peer: Callable[..., list[list[str]]], seed: int) -> None:
    answers = peer("encode", str(seed), "400")
    assert len(answers) == 400
    for written, expected in answers:
        value = loads(bytes.fromhex(written))
        assert text(value) == expected
        assert dumps(value).hex() == written


def test_the_reference_refuses_what_we_refuse_and_reads_what_we_read(peer: Callable[..., list[list[str]]]) -> None:
    vectors = [v for v in json.loads((DATA / "vectors.json").read_text()) if v["kind"] in {"decode", "encode"}]
    messages = [bytes.fromhex(vector["hex"]) for vector in vectors]
    for vector, message, (read, _) in zip(vectors, messages, peer("decode", lines=messages), strict=True):
        if vector["id"] != "map-dup-key":  # of which the JVM keeps both entries
            assert read == text(loads(message)), vector["id"]


def test_the_reference_reads_two_thousand_events_as_we_do(peer: Callable[..., list[list[str]]]) -> None:
    body = json.loads((DATA / "penpot-batch-1.payload.json").read_text())
    data = dumps(loads(blob.decode_str(body["events"]))[:2000])
    ((read, written),) = peer("decode", lines=[data])
    assert read == text(loads(data))
    assert text(loads(bytes.fromhex(written))) == read


def test_the_peer_can_be_timed(peer: Callable[..., list[list[str]]], tmp_path: Path) -> None:
    message = tmp_path / "message.fressian"
    message.write_bytes(dumps([{Keyword("a"): 1}]))
    rounds = peer("bench", str(message), "3")
    assert len(rounds) == 3
    assert all(float(cell) >= 0 for row in rounds for cell in row)
