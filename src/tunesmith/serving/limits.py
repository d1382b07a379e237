"""What a key may use in a minute: requests and tokens, told in OpenAI's headers."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tunesmith.serving.errors import ApiError
from tunesmith.serving.keys import Caller, Limits

_MINUTE = 60.0


@dataclass(slots=True)
class _Bucket:
    """A bucket that holds a minute's worth and fills steadily; it may owe."""

    most: int
    left: float
    moment: float

    def fill(self, moment: float) -> None:
        self.left = min(self.most, self.left + (moment - self.moment) * self.most / _MINUTE)
        self.moment = moment

    def seconds_until(self, amount: float) -> float:
        return max(0.0, (amount - self.left) * _MINUTE / self.most)


class Limiter:
    """The buckets of all keys, in memory: a server that starts again has them full.

    `usual` are the limits of keys that have none of their own, and of programs on this machine where there are no keys.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, usual: Limits | None = None) -> None:
        self._clock = clock
        self._usual = usual or Limits()
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self.read = self.said = 0

    def request(self, caller: Caller) -> dict[str, str]:
        """Count a request; returns the headers that tell what is left.

        Raises ApiError (429), with the time to wait, where the minute's requests or tokens are used up.
        """
        headers: dict[str, str] = {}
        with self._lock:
            for kind, most, wanted in (
                ("requests", caller.limits.requests_per_minute or self._usual.requests_per_minute, 1),
                ("tokens", self._tokens(caller), 0),
            ):
                if most is None:
                    continue
                bucket = self._bucket(caller.key or "", kind, most)
                if bucket.left < max(wanted, 1):
                    raise _used_up(kind, most, bucket.seconds_until(max(wanted, 1)))
                bucket.left -= wanted
                headers |= {
                    f"x-ratelimit-limit-{kind}": str(most),
                    f"x-ratelimit-remaining-{kind}": str(max(0, math.floor(bucket.left))),
                    f"x-ratelimit-reset-{kind}": f"{bucket.seconds_until(most):.0f}s",
                }
        return headers

    def spent(self, caller: Caller, read: int, said: int) -> None:
        """Count the tokens of an answer: of more than are left, the key owes the rest."""
        with self._lock:
            self.read += read
            self.said += said
            most = self._tokens(caller)
            if most is not None:
                self._bucket(caller.key or "", "tokens", most).left -= read + said

    def _tokens(self, caller: Caller) -> int | None:
        return caller.limits.tokens_per_minute or self._usual.tokens_per_minute

    def _bucket(self, key: str, kind: str, most: int) -> _Bucket:
        moment = self._clock()
        bucket = self._buckets.setdefault((key, kind), _Bucket(most, most, moment))
        bucket.fill(moment)
        return bucket


def _used_up(kind: str, most: int, seconds: float) -> ApiError:
    wait = max(1, math.ceil(seconds))
    return ApiError(
        429,
        f"Rate limit reached: this key may use {most} {kind} a minute. Please try again in {wait}s.",
        code="rate_limit_exceeded",
        headers={"retry-after": str(wait)},
    )
