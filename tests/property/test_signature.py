"""A signature vouches for every field of a batch, and for no other batch."""

from dataclasses import fields, replace
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from penpot_telemetry.wire import signature
from penpot_telemetry.wire.payload import MOST, EventsBatch, Signature, Totals, build_events, digest_events, parse

COUNT = st.integers(0, MOST)
DIGEST = st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SEED = st.binary(min_size=32, max_size=32)

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "version": TEXT,
    "instance_id": st.uuids(),
    "events": TEXT,
    "batch_id": st.none() | st.uuids(),
    "batch_seq": st.none() | COUNT,
    "event_count": st.none() | COUNT,
    "totals": st.none() | st.builds(Totals, COUNT, COUNT, COUNT, COUNT, COUNT),
    "supersedes": st.lists(st.uuids(), max_size=3).map(tuple),
}
BATCH = st.builds(EventsBatch, **FIELDS)


def vouches(batch: EventsBatch) -> bool:
    assert batch.signature is not None
    return signature.vouches(batch.signature, batch, digest_events(batch.events))


def test_every_field_that_a_batch_has_is_tampered_with_here() -> None:
    assert {field.name for field in fields(EventsBatch)} == FIELDS.keys() | {"digest", "signature", "ignored"}


@given(BATCH, SEED)
def test_a_signed_batch_is_vouched_for_after_its_way_over_the_wire(batch: EventsBatch, seed: bytes) -> None:
    signed = signature.sign_batch(batch, seed)
    assert signed.signature is not None
    assert signed.signature.key == signature.public_half(seed)
    received = parse(build_events(signed))
    assert received == signed
    assert isinstance(received, EventsBatch)
    assert vouches(received)


@given(st.data(), BATCH, SEED)
def test_no_field_can_be_changed_without_notice(data: st.DataObject, batch: EventsBatch, seed: bytes) -> None:
    signed = signature.sign_batch(batch, seed)
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    value = data.draw(FIELDS[name].filter(lambda value: value != getattr(batch, name)))
    assert not vouches(replace(signed, **{name: value}))


@given(BATCH, SEED, st.integers(0, 511))
def test_no_bit_of_a_signature_can_be_changed(batch: EventsBatch, seed: bytes, bit: int) -> None:
    signed = signature.sign_batch(batch, seed).signature
    assert signed is not None
    value = (int.from_bytes(signed.value) ^ (1 << bit)).to_bytes(64)
    assert not vouches(replace(batch, signature=Signature(signed.key, value)))


@given(BATCH, SEED, st.binary(min_size=32, max_size=32))
def test_a_signature_is_one_of_its_key_alone(batch: EventsBatch, seed: bytes, key: bytes) -> None:
    signed = signature.sign_batch(batch, seed).signature
    assert signed is not None
    assert vouches(replace(batch, signature=Signature(key, signed.value))) == (key == signed.key)


@given(BATCH, DIGEST, BATCH, DIGEST)
def test_two_batches_that_differ_never_share_a_statement(
    one: EventsBatch, digest: str, two: EventsBatch, other: str
) -> None:
    same = replace(one, events="") == replace(two, events="") and digest == other
    assert (signature.state_batch(one, digest) == signature.state_batch(two, other)) == same


def test_a_version_cannot_pretend_to_be_other_fields() -> None:
    plain = EventsBatch("1", UUID(int=1), "AA")
    for version in ("1\nversion 1", "1\n", "\n1", "totals 1 2 3 4 5\nversion 1"):
        assert signature.state_batch(plain, "d") != signature.state_batch(replace(plain, version=version), "d")
