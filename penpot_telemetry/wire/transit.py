"""Transit JSON in its verbose form, as `audit_log` keeps props and context: text in, fressian values out, and back.

Nearly every stored map holds plain scalars, uuids and keywords; those are read here. Whatever else transit can say
goes to transit-python, ten times slower and complete.
"""

import io
import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec
from transit.reader import Reader
from transit.transit_types import URI, Boolean, TaggedValue
from transit.transit_types import Keyword as TransitKeyword
from transit.transit_types import Symbol as TransitSymbol

from penpot_telemetry.errors import EncodeError
from penpot_telemetry.wire.fressian.values import (
    BigDec,
    BigInt,
    Char,
    Instant,
    Keyword,
    Ratio,
    Set,
    Symbol,
    Tagged,
    Uri,
    Value,
    as_key,
)

Scalar = str | int | float | bool | None

_ESCAPED = ("~", "^", "`")
_EXACT = 2**53
"""JSON readers keep integers below this; larger ones travel as text."""

_UUID_TEXT = len("~u00000000-0000-0000-0000-000000000000")

_decode_json = msgspec.json.Decoder().decode
_encode_json = msgspec.json.Encoder().encode


def dumps_verbose(mapping: Mapping[str, Scalar | Keyword]) -> str:
    """A map of plain names to scalars as verbose transit: `{"browser": "Chrome"}` is `{"~:browser":"Chrome"}`."""
    return _encode_json({f"~:{name}": _write_scalar(value) for name, value in mapping.items()}).decode()


def _write_scalar(value: Scalar | Keyword) -> Scalar:
    if isinstance(value, Keyword):
        return f"~:{value}"
    if isinstance(value, str):
        return "~" + value if value.startswith(_ESCAPED) else value
    if isinstance(value, int) and not -_EXACT < value < _EXACT:
        return f"~i{value}" if -(2**63) <= value < 2**63 else f"~n{value}"
    if isinstance(value, float) and not math.isfinite(value):
        return "~zNaN" if math.isnan(value) else "~zINF" if value > 0 else "~z-INF"
    return value


def loads_verbose(text: str) -> Value:
    """The value that a transit JSON text (verbose or not) stands for. Raises EncodeError where it stands for none."""
    try:
        document = _decode_json(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EncodeError(f"transit: not JSON: {error}") from None
    if type(document) is dict:
        found: dict[Value, Value] = {}
        for key, value in document.items():
            if not key.startswith("~:"):
                break
            kind = type(value)
            if kind is dict or kind is list or (kind is int and not -_EXACT < value < _EXACT):
                break
            if kind is not str or not value.startswith(_ESCAPED):
                found[_keyword(key[2:])] = value
            elif value.startswith("~u") and len(value) == _UUID_TEXT:
                found[_keyword(key[2:])] = _read_uuid(value)
            elif value.startswith("~:"):
                found[_keyword(key[2:])] = _keyword(value[2:])
            else:
                break
        else:
            return found
    return _read_any(text)


def _read_uuid(text: str) -> UUID:
    try:
        return UUID(text[2:])
    except ValueError:
        raise EncodeError("transit: a `~u` that is no uuid") from None


def _keyword(text: str) -> Keyword:
    """`ns/name` as a keyword; a lone `/` is a name."""
    namespace, slash, name = text.partition("/")
    return Keyword(name, namespace) if slash and namespace and name else Keyword(text)


def _read_any(text: str) -> Value:
    try:
        return _convert(Reader("json").read(io.StringIO(text)))
    except EncodeError:
        raise
    except Exception as error:  # the library raises whatever its handlers do
        raise EncodeError(f"transit: {type(error).__name__} while reading") from None


def _convert(value: object) -> Value:  # noqa: PLR0911, PLR0912  one case a type reads best
    """A value of transit-python as the fressian value that Penpot would write for it."""
    match value:
        case bool() | float() | str() | None | UUID():
            return value
        case Boolean():
            return bool(value)
        case int():
            return value if -(2**63) <= value < 2**63 else BigInt(value)
        case TransitKeyword():
            return _keyword(value.str)
        case TransitSymbol():
            return Symbol(value.name, value.namespace)
        case Mapping():
            return {as_key(_convert(key)): _convert(item) for key, item in value.items()}
        case frozenset():
            return Set(map(_convert, value))
        case tuple():
            return [_convert(item) for item in value]
        case datetime():
            return Instant.of(value)
        case Decimal():
            return _decimal(value)
        case URI():
            return Uri(value.rep)
        case TaggedValue(tag="c", rep=str(char)):
            return Char(char)
        case TaggedValue(tag="ratio", rep=(int(numerator), int(denominator))):
            return Ratio(numerator, denominator)
        case TaggedValue():
            return Tagged(value.tag, (_convert(value.rep),))
    raise EncodeError(f"transit: a {type(value).__name__} has no place in an event")


def _decimal(value: Decimal) -> BigDec:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise EncodeError("transit: a decimal that is not finite")
    unscaled = int("".join(map(str, digits)))
    return BigDec(-unscaled if sign else unscaled, -exponent)
