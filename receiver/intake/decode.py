"""A POST body in; out comes a batch that may be loaded, a scrubbed report, or a rejection with a typed reason.

Pure: no I/O, no clock, and no exception for a body that is bad. What leaves here holds nothing that the anonymiser
would have removed; only a rejection still has the raw body beside it.
"""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard
from uuid import UUID

import msgspec

from penpot_telemetry.context_values import reduce_json
from penpot_telemetry.errors import DecodeError, Reason
from penpot_telemetry.events import NAME
from penpot_telemetry.wire import payload, signature
from penpot_telemetry.wire.limits import RECEIPT, Limits
from receiver.frames import Page, decode_page
from receiver.storage.records import Stat

BIGINT = 2**63 - 1
VERSION = re.compile(r"[\w.+-]{1,128}", re.ASCII)
UNKNOWN_VERSIONS = frozenset(("", "%version%"))
"""What a Penpot says that was built without a version."""

FIGURE = re.compile(r"(total|avg|max|min|num|jvm)-[a-z0-9-]{1,64}")
"""The stats of a legacy report that are kept when they are numbers: sizes of the instance and of its JVM."""

BACKENDS = frozenset(f"auth-backend-{name}" for name in ("penpot", "oidc", "google", "github", "gitlab", "ldap"))
"""How profiles log in, by number; any other name is counted as OTHER_BACKEND."""

BACKEND, OTHER_BACKEND = "auth-backend-", "auth-backend-other"

COUNTERS = "event-counters"
MOST_COUNTERS = 500
"""Names in the event counters of a report: those counted most are kept."""

REPORT_MARKS = (payload.LEGACY_REPORT.encode(), b"subscriptions", b"email", b"public-uri", b"@")
"""What a legacy report has in it: an unreadable body with one of them may hold addresses, so it is never kept."""

ESCAPE = re.compile(rb"\\u00([0-7][0-9a-fA-F])")

TEXT_STATS = {"os-name": "os", "os-arch": "device-arch", "os-version": "os-version"}
"""Words about the machine, and the context key whose rule they follow."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that can be loaded: what it said of itself, and its events. If it is signed, then rightly."""

    sent: payload.EventsBatch
    digest: str
    page: Page

    @property
    def version(self) -> str:
        """The version that it says it is of, or a word for one that is none."""
        return read_version(self.sent.version)

    @property
    def signed_by(self) -> str | None:
        """The public key whose signature came with it, in base64."""
        return None if self.sent.signature is None else b64encode(self.sent.signature.key).decode()


@dataclass(frozen=True, slots=True)
class Report:
    """A legacy report, scrubbed. `dropped_stats` counts the stats that were not kept."""

    instance_id: UUID
    version: str
    stats: Mapping[str, Stat]
    dropped_stats: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a body can never be loaded. `message` says where and what, and carries no value from the body.

    `sent` and `digest` (of its events text) are there when the body could be read that far. Not kept is a body that
    was understood and holds what is never kept.
    """

    reason: Reason
    message: str
    sent: payload.EventsBatch | None = None
    digest: str | None = None
    is_kept: bool = True


UNSIGNED_REPORT = Rejection("bad-signature", "a legacy report, which is never signed", is_kept=False)


class _Sender(msgspec.Struct, rename="kebab"):
    instance_id: UUID


def read_instance(body: bytes) -> UUID | None:
    """Who a body says it is from, for a glance before the work: a tenth of a millisecond. None when it does not say."""
    try:
        return _sender.decode(body).instance_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_body(
    body: bytes, limits: Limits = RECEIPT, *, require_signature: bool = False
) -> Batch | Report | Rejection:
    """A body as what it is; whatever the bytes are, there is an answer."""
    try:
        parsed = payload.parse(body, limits)
    except DecodeError as error:
        return Rejection(error.reason, str(error), is_kept=not looks_like_report(body))
    if isinstance(parsed, payload.LegacyReport):
        return UNSIGNED_REPORT if require_signature else read_report(parsed)
    return read_batch(parsed, limits, require_signature=require_signature)


def looks_like_report(body: bytes) -> bool:
    """Whether an unreadable body may be a report: as it is, in UTF-16, or with its letters escaped."""
    text = body.replace(b"\0", b"")
    text = ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text)
    return any(mark in text.lower() for mark in REPORT_MARKS)


def read_batch(sent: payload.EventsBatch, limits: Limits, *, require_signature: bool = False) -> Batch | Rejection:
    """The envelope against its content: the digest and the signature before a byte is decoded, the count after."""
    digest = payload.digest_events(sent.events)
    if sent.digest is not None and sent.digest != digest:
        return Rejection("wrong-digest", "the digest given is not the one of the events text", sent, digest)
    fault = signature_fault(sent, digest, require_signature=require_signature)
    if fault is not None:
        return Rejection("bad-signature", fault, sent, digest)
    try:
        page = decode_page(sent.events, limits)
    except DecodeError as error:
        return Rejection(error.reason, str(error), sent, digest)
    if sent.event_count is not None and sent.event_count != page.events:
        sent = replace(sent, ignored=(*sent.ignored, "event-count"))
    return Batch(sent, digest, page)


def read_version(version: str) -> str:
    """A version as it is stored: what is none is `unknown` or `other`, and no reason to refuse the events."""
    if VERSION.fullmatch(version) is not None:
        return version
    return payload.UNKNOWN_VERSION if version.strip() in UNKNOWN_VERSIONS else payload.OTHER_VERSION


def signature_fault(sent: payload.EventsBatch, digest: str, *, require_signature: bool) -> str | None:
    """What is wrong with the signature of a batch whose events have this digest, or None."""
    if sent.signature is None:
        return "not signed, and this receiver requires it" if require_signature else None
    if not signature.vouches(sent.signature, sent, digest):
        return "the signature is not one of its key for this batch"
    return None


def read_report(report: payload.LegacyReport) -> Report:
    """A legacy report without e-mails, subscriptions, addresses and e-mail domains: an allow-list, as for contexts."""
    figures = {key: value for key, value in report.stats.items() if not key.startswith(BACKEND) and key != COUNTERS}
    kept: dict[str, Stat] = {key: safe for key, value in figures.items() if (safe := safe_stat(key, value)) is not None}
    backends = [(key, value) for key, value in report.stats.items() if key.startswith(BACKEND) and is_count(value)]
    logins = Counter[str]()
    for key, value in backends:
        logins[key if key in BACKENDS else OTHER_BACKEND] += value
    stats = kept | {key: min(BIGINT, value) for key, value in logins.items()}
    sent = report.stats.get(COUNTERS)
    counters = safe_counters(sent) if isinstance(sent, dict) else {}
    if counters:
        stats[COUNTERS] = counters
    dropped = len(report.stats) - len(kept) - len(backends) - (COUNTERS in stats)
    left_out = len(sent) - len(counters) if isinstance(sent, dict) else 0
    return Report(report.instance_id, read_version(report.version), stats, dropped + left_out)


def is_count(value: object) -> TypeGuard[int]:
    """Whether a value is a number of things."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= BIGINT


def safe_counters(counters: Mapping[str, object]) -> dict[str, int]:
    """How often each event was counted, by names that the anonymiser would let pass: those counted most, by name."""
    kept = [(value, name) for name, value in counters.items() if is_count(value) and NAME.fullmatch(name)]
    kept.sort(key=lambda pair: (-pair[0], pair[1]))
    return {name: value for value, name in sorted(kept[:MOST_COUNTERS], key=lambda pair: pair[1])}


def safe_stat(key: str, value: object) -> int | float | str | None:
    """The value of one stat when it may be kept: a figure under a figure's name, a plain word under three others."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float) and FIGURE.fullmatch(key) and abs(value) <= BIGINT:
        return value
    if isinstance(value, str) and key in TEXT_STATS:
        return safe_system(key, value)
    return None


def safe_system(key: str, value: str) -> str | None:
    """A word about the machine, by the rule for the same word in a context; None for one that is not known."""
    reduced, _, _ = reduce_json("telemetry:frontend", msgspec.json.encode({TEXT_STATS[key]: value}).decode())
    found = msgspec.json.decode(reduced).get(TEXT_STATS[key])
    return None if found == "other" else found


def canonical_stats(report: Report) -> bytes:
    """The stats as JSON text with sorted keys: the same stats, the same bytes."""
    return msgspec.json.encode(dict(report.stats), order="sorted")


_sender = msgspec.json.Decoder(_Sender)
