"""How often something may happen: token buckets in memory, for as many keys as fit in a bounded table.

A bucket holds one minute's worth, so a sender that was quiet may send that much at once; then it refills evenly.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MINUTE = 60.0
KEYS = 10_000  # about 2.5 MB
ROUNDING = 1e-6  # seconds: what adding up fractions of a minute may be off by


class Rates:
    """A bucket a key, each of `per_minute` tokens. Any thread may ask.

    One number a key is all there is to keep: the instant at which its bucket is full again. Of more than `most` keys
    the one that asked longest ago is forgotten, and so has a full bucket: keys that somebody makes up cost memory up to
    a bound, and cost no other key a token.
    """

    def __init__(self, per_minute: int, most: int = KEYS, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_token = MINUTE / per_minute
        self._most = most
        self._clock = clock
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable = None) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        with self._lock:
            wait, full_at = self._look(key)
            self._full_at.pop(key, None)
            self._full_at[key] = full_at - self._a_token if wait else full_at
            if len(self._full_at) > self._most:
                self._full_at.popitem(last=False)
            return wait

    def wait(self, key: Hashable = None) -> float:
        """The seconds until there is a token; takes none, and remembers no key."""
        with self._lock:
            return self._look(key)[0]

    def _look(self, key: Hashable) -> tuple[float, float]:
        """The seconds to wait for a token, and when the bucket will be full once it is taken."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now)) + self._a_token
        wait = full_at - now - MINUTE
        return (wait if wait > ROUNDING else 0.0), full_at
