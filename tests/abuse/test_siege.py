"""Everything at once against the shipped settings, in its short form."""

from pathlib import Path

from tests.abuse.costly import COSTLY
from tests.abuse.siege import besiege

MOST_MEMORY = 1024
"""MiB: what `docs/hostile-bytes.md` says for the shipped settings, and a little."""


def test_honest_batches_land_while_everything_is_thrown_at_once(tmp_path: Path) -> None:
    came = besiege(tmp_path / "r", 12, kills=1, bodies=[make() for make in COSTLY.values()])
    assert not came.wrong
    assert len(came.seconds) > came.undelivered
    assert came.strange.total() > 10
    assert len(came.restarts) == 1
    assert came.memory < MOST_MEMORY
    assert came.log_bytes < 1024 * 1024
