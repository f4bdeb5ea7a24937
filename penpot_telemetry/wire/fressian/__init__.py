"""Fressian, as Penpot writes and reads it: bytes to values and back. Knows no events, no zstd, no HTTP.

>>> dumps({Keyword("name"): "navigate"}).hex()
'efe1636c6a2f6d617001edcdefe30b636c6a2f6b6579776f726402f7cdde6e616d65e3086e61766967617465fd'
>>> loads(dumps({Keyword("name"): "navigate"}))
{:name: 'navigate'}
"""

from penpot_telemetry.wire.fressian.handlers import READ, WRITE
from penpot_telemetry.wire.fressian.reader import Reader
from penpot_telemetry.wire.fressian.values import (
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
    Json,
    Key,
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
    canonical,
    iso,
    plain,
)
from penpot_telemetry.wire.fressian.writer import Writer
from penpot_telemetry.wire.limits import RECEIPT, Limits

__all__ = [
    "Array",
    "BigDec",
    "BigInt",
    "Char",
    "Date",
    "Float32",
    "Instant",
    "JavaList",
    "JavaMap",
    "JavaSet",
    "Json",
    "Key",
    "Keyword",
    "LinkedMap",
    "LinkedSet",
    "Ratio",
    "Regex",
    "Set",
    "Symbol",
    "Tagged",
    "Uri",
    "Value",
    "canonical",
    "dumps",
    "iso",
    "loads",
    "plain",
]


def loads(data: bytes, limits: Limits = RECEIPT) -> Value:
    """The first value of the bytes; what follows it is ignored, as the reference does. Raises DecodeError."""
    return Reader(data, limits, READ).read()


def dumps(value: Value) -> bytes:
    """A value as the bytes Penpot would write. Raises EncodeError for what the format cannot carry.

    Beside the value types: an aware datetime is an Instant, a Decimal a BigDec, a set a clj/set in the order of its
    members' bytes.
    """
    return Writer(WRITE).write(value)
