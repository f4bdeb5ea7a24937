"""Fressian bytes in, one step of the format after the other out: for people who want to see what the bytes say.

The reader reads the bytes first, so hostile ones end in its DecodeError before anything is explained.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeAlias

from penpot_telemetry.errors import DecodeError
from penpot_telemetry.wire.fressian import codes
from penpot_telemetry.wire.fressian.handlers import READ
from penpot_telemetry.wire.fressian.reader import Reader
from penpot_telemetry.wire.fressian.values import Value
from penpot_telemetry.wire.limits import RECEIPT, Limits


class Step(NamedTuple):
    """Some bytes that belong together, how deep they stand, and what they say."""

    start: int
    raw: bytes
    depth: int
    meaning: str


Steps: TypeAlias = Generator[Step, None, str]
"""The steps of one value, and at the end what it is, in few words."""


def explain(data: bytes, limits: Limits = RECEIPT) -> Generator[Step, None, None]:
    """The first value of the bytes, step by step; the steps' bytes, joined, are the value's. Raises DecodeError.

    >>> for step in explain(bytes.fromhex("e601e3086e61766967617465")):
    ...     print("  " * step.depth + step.meaning, "=", step.raw.hex(" "))
    list of 2 = e6
      1 = 01
      'navigate' = e3 08 6e 61 76 69 67 61 74 65
    """
    reader = Reader(data, limits, READ)
    reader.read()
    explainer = _Explainer(data, limits)
    try:
        yield from explainer.value(0)
    except (IndexError, DecodeError):
        explainer.pos = -1
    if explainer.pos != reader.pos:
        raise DecodeError("a struct does not have the components that it declares")


class _Explainer:
    """The place in the bytes, and what both caches hold, in words."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self.data = data
        self.pos = 0
        self.atoms = Reader(data, limits, READ)
        self.cache: list[str] = []
        self.structs: list[tuple[str, int]] = []

    def value(self, depth: int) -> Steps:
        """The value at the place, whatever it is."""
        code = self.data[self.pos]
        return (yield from _STEPS.get(code, _Explainer.atom)(self, code, depth))

    def atom(self, _code: int, depth: int) -> Steps:
        start, found = self.pos, self.read()
        said = f"{len(found)} bytes" if isinstance(found, bytes) else "nil" if found is None else repr(found)
        yield self.step(start, depth, said)
        return said

    def sized_list(self, code: int, depth: int) -> Steps:
        start = self.pos
        self.pos += 1
        count = self.read() if code == codes.LIST else code - codes.LIST_PACKED
        yield self.step(start, depth, f"list of {count}")
        yield from self.values(count, depth + 1)
        return f"a list of {count}"

    def marked_list(self, code: int, depth: int) -> Steps:
        yield self.take(1, depth, "list, up to its end")
        while self.pos < len(self.data) and self.data[self.pos] != codes.END_COLLECTION:
            yield from self.value(depth + 1)
        if self.pos < len(self.data) or code == codes.BEGIN_CLOSED_LIST:
            yield self.take(1, depth, "end of the list")
        return "a list"

    def put(self, _code: int, depth: int) -> Steps:
        slot = len(self.cache)
        self.cache.append("")
        yield self.take(1, depth, f"to be kept as value {slot}:")
        said = self.cache[slot] = yield from self.value(depth + 1)
        return said

    def reference(self, code: int, depth: int) -> Steps:
        start = self.pos
        self.pos += 1
        slot = self.read() if code == codes.CACHE_REF else code - codes.CACHE_REF_PACKED
        said = self.cache[slot]
        yield self.step(start, depth, f"value {slot} again: {said}")
        return said

    def struct_type(self, _code: int, depth: int) -> Steps:
        yield self.take(
            1, depth, f"struct, to be kept as struct {len(self.structs)}: its tag, its number of components"
        )
        tag = (yield from self.value(depth + 1)).strip("'")
        count = int((yield from self.value(depth + 1)))
        self.structs.append((tag, count))
        return (yield from self.components(tag, count, depth + 1))

    def struct(self, code: int, depth: int) -> Steps:
        start = self.pos
        self.pos += 1
        slot = self.read() if code == codes.STRUCT else code - codes.STRUCT_PACKED
        tag, count = self.structs[slot]
        yield self.step(start, depth, f"struct {slot} again: {tag}")
        return (yield from self.components(tag, count, depth + 1))

    def core(self, code: int, depth: int) -> Steps:
        tag, count = _CORE[code]
        yield self.take(1, depth, tag)
        return (yield from self.components(tag, count, depth + 1))

    def components(self, tag: str, count: int, depth: int) -> Steps:
        if tag.endswith("[]") and tag in READ:
            count = int((yield from self.value(depth)))
        said = yield from self.values(count, depth)
        if tag == "clj/keyword":
            return ":" + "/".join(text.strip("'") for text in said if text != "nil")
        return f"a {tag}"

    def between(self, code: int, depth: int) -> Steps:
        footer = code == codes.FOOTER
        yield self.take(
            12 if footer else 1, depth, "footer: length and checksum" if footer else "both caches are emptied"
        )
        self.cache, self.structs = [], []
        return (yield from self.value(depth))

    def values(self, count: int, depth: int) -> Generator[Step, None, list[str]]:
        said = []
        for _ in range(count):
            said.append((yield from self.value(depth)))
        return said

    def read(self) -> Value:
        """The value at the place, which refers to no cache."""
        self.atoms.pos = self.pos
        found = self.atoms.read_object()
        self.pos = self.atoms.pos
        return found

    def take(self, size: int, depth: int, meaning: str) -> Step:
        self.pos += size
        return self.step(self.pos - size, depth, meaning)

    def step(self, start: int, depth: int, meaning: str) -> Step:
        return Step(start, self.data[start : self.pos], depth, meaning)


# ---------------------------------------------------------------------------------------------------- the tables

_CORE = {code: tag_and_count for tag_and_count, code in codes.CORE_TAGS.items()}

_STEPS: dict[int, Callable[[_Explainer, int, int], Steps]] = {
    **dict.fromkeys(range(codes.CACHE_REF_PACKED, codes.CACHE_REF_PACKED + codes.PACKED_REFS), _Explainer.reference),
    **dict.fromkeys(range(codes.STRUCT_PACKED, codes.STRUCT_PACKED + codes.PACKED_STRUCTS), _Explainer.struct),
    **dict.fromkeys(_CORE, _Explainer.core),
    codes.CACHE_REF: _Explainer.reference,
    codes.CACHE_PUT: _Explainer.put,
    codes.FOOTER: _Explainer.between,
    **dict.fromkeys(range(codes.LIST_PACKED, codes.LIST_PACKED + codes.PACKED_LENGTHS), _Explainer.sized_list),
    codes.LIST: _Explainer.sized_list,
    codes.BEGIN_CLOSED_LIST: _Explainer.marked_list,
    codes.BEGIN_OPEN_LIST: _Explainer.marked_list,
    codes.STRUCTTYPE: _Explainer.struct_type,
    codes.STRUCT: _Explainer.struct,
    codes.RESET_CACHES: _Explainer.between,
}
"""The codes that other values follow; every other code is an atom."""
