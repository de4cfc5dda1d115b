"""The door for requests: it counts those inside and what they hold, and lets no more in once the server ends.

What a request is before it has arrived whole does not count: a client that never ends its request keeps nobody waiting.
"""

import asyncio
import collections
import contextlib
import itertools
from collections.abc import Callable, Iterator

import grpc

from export.serving.serving_error import ServingError, exhausted, invalid

SECONDS_OF_REFUSAL = 0.2
"""How long a server that ends still answers "no": what has reached a port but no handler when it stops is cut off."""


class Admission:
    """Lets requests in until it is closed. All of it belongs to the event loop's thread.

    Args:
        max_bytes: what all requests may hold together.
    """

    def __init__(self, max_bytes: int):
        self._max_bytes, self._bytes, self._inside, self._sending, self._is_closed = max_bytes, 0, 0, 0, False
        self._nobody_inside = asyncio.Event()

    def hold(self, size: int, besides: int = 0) -> None:
        """Counts bytes of a request until `let_go`.

        Args:
            size: what comes to be counted.
            besides: what is counted of the same request already.

        Raises:
            ServingError: RESOURCE_EXHAUSTED, or INVALID_ARGUMENT where it can never be let in; nothing is counted.
        """
        if (own := size + besides) > self._max_bytes:
            raise invalid(f"the request holds {own >> 20} MB, more than all may together: {self._max_bytes >> 20} MB")
        if self._bytes + size > self._max_bytes:
            raise exhausted(f"the requests of all clients hold {self._bytes >> 20} MB already; try again later")
        self._bytes += size

    def let_go(self, size: int) -> None:
        """Ends what `hold` began."""
        self._bytes -= size

    @contextlib.contextmanager
    def holding(self, size: int, besides: int = 0) -> Iterator[None]:
        """`hold`, and `let_go` at the end."""
        self.hold(size, besides)
        try:
            yield
        finally:
            self.let_go(size)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Around the work on a request. Raises `ServingError`: UNAVAILABLE, after `close`."""
        if self._is_closed:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is ending; send it to another")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._tell_when_nobody_is_left()

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Around an answer's way out, and what comes before: `close` waits for it too."""
        self._sending += 1
        try:
            yield
        finally:
            self._sending -= 1
            self._tell_when_nobody_is_left()

    def _tell_when_nobody_is_left(self):
        if not self._inside and not self._sending:
            self._nobody_inside.set()

    async def close(self, seconds: float) -> int:
        """Refuses new requests and waits, at most `seconds`, for those inside; how many of them are still there."""
        self._is_closed = True
        self._nobody_inside.clear()
        if self._inside or self._sending:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nobody_inside.wait(), seconds)
        await asyncio.sleep(min(SECONDS_OF_REFUSAL, seconds))
        return self._inside


class Arrivals:
    """What has not arrived whole, the oldest first: when there is too much of it, the oldest must give up its place.

    So a client that opens requests or connections and leaves them at that shuts nobody else out.

    Args:
        most: places.
    """

    def __init__(self, most: int):
        self._most, self._give_up = most, collections.OrderedDict()
        self._numbers = itertools.count()

    def enter(self, give_up: Callable[[], object]) -> int:
        """A new one; `give_up` is called where its place is needed. Returns its number, for `leave`."""
        if len(self._give_up) >= self._most:
            _, oldest = self._give_up.popitem(last=False)
            oldest()
        number = next(self._numbers)
        self._give_up[number] = give_up
        return number

    def leave(self, number: int) -> None:
        """It has arrived, or is gone."""
        self._give_up.pop(number, None)
