"""What can be done for a body without the writer: decode it, and pack what the journal will carry of it."""

from dataclasses import dataclass

from penpot_telemetry.wire.limits import RECEIPT, Limits
from receiver.frames import (
    write_rows,
)
from receiver.intake import decode
from receiver.intake.decode import Batch, Rejection, Report
from receiver.reports.account import Refused
from receiver.storage import journal
from receiver.storage.journal import Carried, TooLargeError


@dataclass(frozen=True, slots=True)
class Job:
    """One body on its way to the writer: read already, and what it will carry compressed already.

    `retried`: what it was in the quarantine until now.
    """

    body: bytes
    item: Batch | Report | Rejection
    carried: Carried
    packed: bytes
    retried: Refused | None = None

    @property
    def size(self) -> int:
        """The bytes of the rows, as `penpot_telemetry.wire.limits` counts them."""
        return self.item.page.size if isinstance(self.item, Batch) else 0

    @property
    def held(self) -> int:
        """The memory that it holds until it is answered."""
        return self.size + len(self.packed)


def prepare(body: bytes, limits: Limits = RECEIPT, *, require_signature: bool = False) -> Job:
    """All that can be done for a body without the writer."""
    item = decode_or_reject(body, limits, require_signature=require_signature)
    if not isinstance(item, Batch):
        return Job(body, item, "nothing", journal.NOTHING)
    try:
        return Job(body, item, "rows", journal.pack_carried(write_rows(item.page.frame, item.page.dead_letters)))
    except TooLargeError as error:
        refusal = Rejection("too-large", str(error), item.sent, item.digest)
        return Job(body, refusal, "nothing", journal.NOTHING)


def decode_or_reject(body: bytes, limits: Limits, *, require_signature: bool = False) -> Batch | Report | Rejection:
    """A body as what it is. A defect of ours must not become a body that is sent for ever: it is put aside too."""
    try:
        return decode.decode_body(body, limits, require_signature=require_signature)
    except MemoryError:
        raise
    except Exception as error:
        return Rejection("bad-fressian", f"the reader failed with {type(error).__name__}: report this as a defect")
