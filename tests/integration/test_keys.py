"""Who signs for an instance: the first key stays, and what another or none signed never gets in."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from psycopg import Connection

from penpot_telemetry import account, ledger, pipeline
from penpot_telemetry.config import Settings
from penpot_telemetry.endpoint import Endpoint
from penpot_telemetry.ledger import Verification
from penpot_telemetry.wire import payload, signature
from penpot_telemetry.wire.batch import encode_events
from receiver.intake import commit, decode, operations
from receiver.intake.operations import erase_id
from receiver.reports.instances import Instance, list_instances
from receiver.storage import journal
from receiver.storage.store import UnavailableError
from tests.conftest import NOON, make_events, names_of
from tests.crash.house import Front, House, open_front
from tests.integration.receiving import INSTANCE, command, legacy_report, penpots_body, rows, running

ALICE, MALLORY = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    folder = tmp_path / "house"
    folder.mkdir()
    opened = House(folder, NOON)
    yield opened
    opened.store.close()


@pytest.fixture
def front(house: House) -> Iterator[Front]:
    with open_front() as opened:
        opened.post, opened.get = house.take, lambda path: (200, house.list_batches(path))
        yield opened


@pytest.fixture
def shipping(settings: Settings, front: Front) -> Settings:
    return replace(settings, endpoint=Endpoint(front.url))


def signed_body(number: int, key: bytes | None = None, instance: UUID = INSTANCE) -> bytes:
    """Batch `number` of an instance: one event of its own, signed with a key or with none."""
    events = encode_events(rows(1, number))
    batch = payload.EventsBatch("2.18.0", instance, events, UUID(int=number), number, 1, payload.digest_events(events))
    return payload.build_events(batch if key is None else signature.sign_batch(batch, key))


def outcomes(house: House, *bodies: bytes) -> list[str]:
    """What becomes of bodies that come together: the status, or the reason of what is put aside."""
    return [receipt.reason or receipt.status for receipt in house.receive(bodies)]


def line_of(house: House) -> Instance:
    """The only instance."""
    (one,) = list_instances(house.store.warehouse.con).instances
    return one


def pinned(house: House) -> str | None:
    return line_of(house).key


def unpin(house: House) -> str | None:
    return operations.unpin(house.store, INSTANCE)


def shown(key: bytes) -> str:
    """A private key's public half, as it is stored and shown."""
    found = json.loads(signed_body(1, key))["signature"]["key"]
    assert isinstance(found, str)
    return found


# -- from the sender to the receiver ---------------------------------------------------------------------------------


def test_the_first_key_of_a_sender_stays_until_it_is_unpinned(
    conn: Connection, shipping: Settings, house: House
) -> None:
    def ship(number: int, key: bytes | None) -> list[str]:
        pipeline.record_events(conn, make_events(1, start=number), shipping)
        report = pipeline.run_pass(conn, replace(shipping, signing_key=key))
        assert (report.failure, report.shipped) == (None, 1)
        return report.warnings

    assert ship(0, None) == []
    assert (line_of(house).trust, pinned(house)) == ("batch-id", None)
    assert ship(1, ALICE) == []
    assert (line_of(house).trust, pinned(house)) == ("signed", shown(ALICE))
    assert ship(2, ALICE) == []
    pipeline.record_events(conn, make_events(2, start=3), shipping)
    for key in (None, MALLORY):
        report = pipeline.run_pass(conn, replace(shipping, signing_key=key))
        assert "bad-signature" in str(report.failure)
        assert (report.shipped, report.pending) == (0, 2)
    report = pipeline.run_pass(conn, replace(shipping, signing_key=ALICE))
    assert (report.failure, report.shipped) == (None, 2)
    assert house.marks() == {f"e-{n}": 1 for n in range(5)}
    assert house.read_account().quarantine == {"bad-signature": 4}  # each was sent again by the next pass
    assert (line_of(house).batches, line_of(house).signed, pinned(house)) == (4, 3, shown(ALICE))
    before = house.digest
    house.rebuild()
    assert house.digest == before
    assert pinned(house) == shown(ALICE)
    instance_id = account.read_state(conn).instance_id
    assert instance_id is not None
    assert operations.unpin(house.store, instance_id) == shown(ALICE)
    assert ship(6, MALLORY) == []
    pipeline.record_events(conn, make_events(1, start=7), shipping)
    assert "bad-signature" in str(pipeline.run_pass(conn, replace(shipping, signing_key=ALICE)).failure)
    before = house.digest
    house.rebuild()
    assert house.digest == before
    assert pinned(house) == shown(MALLORY)
    assert house.read_account().adds_up
    assert shipping.endpoint is not None
    assert ledger.verify(conn, shipping.endpoint, shipping) == Verification(5, [], [])


def test_a_page_is_signed_when_it_is_frozen_and_then_never_again(
    conn: Connection, shipping: Settings, house: House, front: Front
) -> None:
    sent: list[bytes] = []

    def lose(body: bytes) -> tuple[None, bytes]:
        sent.append(body)
        return None, b""

    pipeline.record_events(conn, make_events(3), shipping)
    front.post = lose
    pipeline.run_pass(conn, replace(shipping, signing_key=ALICE))
    pipeline.run_pass(conn, replace(shipping, signing_key=MALLORY))
    pipeline.run_pass(conn, shipping)
    assert len(set(sent)) == 1
    front.post = house.take
    assert pipeline.run_pass(conn, shipping).shipped == 3
    assert pinned(house) == shown(ALICE)


def test_the_batch_that_uses_up_an_id_is_signed_too(
    conn: Connection, shipping: Settings, house: House, front: Front
) -> None:
    signing = replace(shipping, signing_key=ALICE)
    pipeline.record_events(conn, make_events(1, start=100), signing)
    pipeline.run_pass(conn, signing)
    pipeline.record_events(conn, make_events(4), signing)
    front.post = lambda _: (None, b"")
    pipeline.run_pass(conn, signing)
    front.post = lambda body: (400, b"") if "e-3" in names_of(body) else house.take(body)
    report = pipeline.run_pass(conn, signing)
    assert (report.failure, report.shipped, report.quarantined) == (None, 3, 1)
    assert house.read_account().quarantine == {}


# -- what gets in ----------------------------------------------------------------------------------------------------


def test_a_pin_holds_for_the_batches_beside_it_in_one_transaction(house: House) -> None:
    other = UUID(int=77)
    found = outcomes(
        house,
        signed_body(1),
        signed_body(2, ALICE),
        signed_body(3),
        signed_body(4, MALLORY),
        signed_body(5, ALICE),
        signed_body(6, MALLORY, other),
        signed_body(7, None, UUID(int=78)),
    )
    assert found == ["accepted", "accepted", "bad-signature", "bad-signature", "accepted", "accepted", "accepted"]
    assert house.read_account().adds_up


def test_a_key_is_pinned_once_and_by_the_first_of_two_receivers_whose_landfills_are_joined(
    house: House, tmp_path: Path
) -> None:
    outcomes(house, signed_body(1, ALICE))
    house.now = NOON + timedelta(hours=1)
    outcomes(house, signed_body(2, ALICE))
    other = House(tmp_path, NOON + timedelta(minutes=90))
    outcomes(other, signed_body(3, MALLORY))
    other.store.close()
    shutil.copytree(other.places.landfill, house.places.landfill / "other")
    house.rebuild()
    assert (line_of(house).batches, line_of(house).signed) == (3, 3)
    keys = house.store.warehouse.con.execute("SELECT key, since FROM instance_keys").fetchall()
    assert keys == [(shown(ALICE), NOON.replace(tzinfo=None))]


def test_what_was_loaded_stays_the_same_batch_whoever_repeats_it(house: House) -> None:
    assert outcomes(house, signed_body(1), signed_body(1, MALLORY)) == ["accepted", "duplicate"]
    assert pinned(house) is None
    assert outcomes(house, signed_body(2, ALICE), signed_body(2), signed_body(1)) == ["accepted", *["duplicate"] * 2]
    assert (pinned(house), line_of(house).signed) == (shown(ALICE), 1)


FORGERIES: dict[str, Any] = {
    "version": "2.18.1",
    "instance-id": str(UUID(int=5)),
    "batch-id": str(UUID(int=5)),
    "batch-seq": 5,
    "event-count": None,
    "totals": dict.fromkeys(("recorded", "shipped", "dropped", "quarantined", "pending"), 0),
    "events": "****",
}


@pytest.mark.parametrize("field", FORGERIES)
def test_a_forged_body_is_told_by_its_signature_before_it_is_decoded(field: str) -> None:
    body = json.loads(signed_body(1, ALICE)) | {field: FORGERIES[field]}
    body["digest"] = payload.digest_events(body["events"])
    found = decode.decode_body(json.dumps(body).encode())
    assert isinstance(found, decode.Rejection)
    assert found.reason == "bad-signature"
    assert isinstance(decode.decode_body(signed_body(1, ALICE)), decode.Batch)


def test_a_report_is_nobodys_where_a_key_is_pinned_and_its_bytes_are_not_kept(house: House) -> None:
    (accepted,) = outcomes(house, legacy_report(**{"total-users": 1}))
    assert accepted == "accepted"
    refused = legacy_report(**{"total-users": 2})
    assert outcomes(house, signed_body(1, ALICE), refused) == ["accepted", "bad-signature"]
    assert outcomes(house, refused, legacy_report(**{"total-users": 1})) == ["bad-signature", "duplicate"]
    assert list(house.places.quarantine.iterdir()) == []
    assert house.read_account().adds_up
    assert line_of(house).reports == 1


# -- the operator's word ---------------------------------------------------------------------------------------------


def test_a_pin_and_the_word_to_drop_it_outlive_a_crash_before_the_commit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.die_before_commit(signed_body(1, ALICE))
    assert pinned(house) == shown(ALICE)
    with monkeypatch.context() as broken:

        def fail(_: object) -> None:
            raise OSError("no room")

        broken.setattr(commit, "commit", fail)
        with pytest.raises(UnavailableError):
            unpin(house)
    house.restart()
    assert pinned(house) is None
    assert unpin(house) is None
    assert outcomes(house, signed_body(2, MALLORY)) == ["accepted"]


def test_the_word_stays_between_its_deliveries_when_the_clock_goes_back(house: House) -> None:
    outcomes(house, signed_body(1, ALICE))
    house.now = NOON + timedelta(minutes=50)
    assert unpin(house) == shown(ALICE)
    house.now = NOON
    house.restart()
    assert outcomes(house, signed_body(2, MALLORY)) == ["accepted"]
    unpin(house)
    house.restart()
    assert outcomes(house, signed_body(3), signed_body(4, ALICE)) == ["accepted", "accepted"]
    assert house.store.found.replayed == 0
    before = house.digest
    house.rebuild()
    assert (house.digest, pinned(house)) == (before, shown(ALICE))
    assert house.read_account().adds_up
    assert house.read_account().received == 4


def test_an_instance_that_is_erased_takes_its_pin_along(house: House) -> None:
    outcomes(house, signed_body(1, ALICE), signed_body(2, MALLORY, UUID(int=5)))
    unpin(house)
    outcomes(house, signed_body(3, ALICE))
    house.store.close()
    erase_id(house.places, "instance", INSTANCE)
    house.now = None  # an erasure is stamped by the clock of the machine
    house.restart()
    before = house.digest
    for _ in range(2):
        assert (line_of(house).instance_id, pinned(house)) == (UUID(int=5), shown(MALLORY))
        count = house.store.warehouse.con.execute("SELECT count(*) FROM instance_keys").fetchall()
        assert (count, house.digest) == ([(1,)], before)
        house.rebuild()
    for path in house.places.landfill.glob("*.zst"):
        for record in journal.scan(path):
            assert str(INSTANCE).encode() not in msgspec.json.encode(record.header)
    assert outcomes(house, signed_body(4, MALLORY)) == ["accepted"]


# -- the running server ----------------------------------------------------------------------------------------------


def test_a_receiver_that_requires_signatures_and_its_list_of_instances(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    with running(folder, RECEIVER_REQUIRE_SIGNATURES="yes") as there:
        for unsigned in (signed_body(1), penpots_body(), legacy_report(**{"total-users": 2})):
            assert there.receipt(unsigned)["reason"] == "bad-signature"
        assert there.receipt(signed_body(2, ALICE))["status"] == "accepted"
        assert there.receipt(signed_body(5, MALLORY, UUID(int=3)))["status"] == "accepted"
        found = there.get("/instances")
        assert [(one["instance-id"], one["key"]) for one in found["instances"]] == [
            (str(UUID(int=3)), shown(MALLORY)),
            (str(INSTANCE), shown(ALICE)),
        ]
        assert found["total"] == 2
        assert found["instances"][1] | {"first-seen": "", "last-seen": ""} == {
            "instance-id": str(INSTANCE),
            "first-seen": "",
            "last-seen": "",
            "version": "2.18.0",
            "versions": 1,
            "batches": 1,
            "events": 1,
            "reports": 0,
            "trust": "signed",
            "signed": 1,
            "key": shown(ALICE),
            "missing": 1,
            "lost": 0,
            "days": 1,
            "is-vouched": True,
            "implausible-days": 0,
        }
        assert there.get("/instances?limit=1&offset=1")["instances"] == found["instances"][1:]
        by_command = command(folder, "instances", "--json")
        assert json.loads(by_command.stdout) == found["instances"]
    listed = command(folder, "instances")
    assert listed.returncode == 0, listed.stderr
    head, _, line = listed.stdout.splitlines()
    assert head.split("\t")[0] == "instance"
    assert line.split("\t")[0] == str(INSTANCE)


def test_a_key_is_unpinned_by_the_beginning_of_the_id_of_its_instance(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    bodies = {name: tmp_path / name for name in ("alice", "mallory")}
    bodies["alice"].write_bytes(signed_body(1, ALICE))
    bodies["mallory"].write_bytes(signed_body(2, MALLORY))
    folder.mkdir()
    assert "accepted" in command(folder, "load", str(bodies["alice"])).stdout
    assert "bad-signature" in command(folder, "load", str(bodies["mallory"])).stdout
    unknown = command(folder, "instances", "unpin", "ffff")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    done = command(folder, "instances", "unpin", str(INSTANCE)[:8].upper())
    assert (done.returncode, shown(ALICE) in done.stdout) == (0, True)
    assert "accepted" in command(folder, "load", str(bodies["mallory"])).stdout
