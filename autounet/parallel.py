"""Bounded, ordered work in threads. torch, zlib and ITK release the interpreter's lock, so threads are enough."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from autounet.errors import AutounetError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    ahead: int | None = None,
    start_thread: Callable[[], None] | None = None,
    give_up: Callable[[], None] = lambda: None,
) -> Generator[tuple[Item, Result | AutounetError], None, None]:
    """Applies ``function`` to the items and yields (item, result) in the items' order.

    At most ``ahead`` results (default ``workers + 1``) are finished or under way beyond the one being consumed, so memory is
    bounded by that number, not by the number of items. With ``workers=0`` the same work is done inline. ``start_thread`` is called in
    every thread before its first item.
    An AutounetError of one item is yielded in place of its result; any other exception is raised here, as it was. When that happens or
    the generator is closed early, ``give_up`` is called before the threads are waited for, so that none waits for what will not come.
    """

    def guarded(item: Item) -> Result | AutounetError:
        try:
            return function(item)
        except AutounetError as error:
            return error.without_frames()

    if workers <= 0:
        for item in items:
            yield item, guarded(item)
        return
    pending: deque[tuple[Item, Future[Result | AutounetError]]] = deque()
    limit = workers + 1 if ahead is None else ahead
    with ThreadPoolExecutor(workers, thread_name_prefix="autounet", initializer=start_thread) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(guarded, item)))
                if len(pending) > limit:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        except BaseException:
            for _, future in pending:
                future.cancel()
            give_up()
            raise


def map_within(
    function: Callable[[Item], Result], items: Sequence[Item], size_of: Callable[[Item], int], limit: int, workers: int
) -> Generator[tuple[Item, Result | AutounetError], None, None]:
    """As ``map_ordered``, for work that takes memory while it is done: the sizes of what is under way stay within ``limit`` together.

    What is larger is done alone. Results are small: they do not count. ``size_of`` is asked in the threads, right before the work.
    """
    gate = Gate(limit)

    def one(turn: int) -> Result:
        size = size_of(items[turn])
        gate.enter(turn, size)
        try:
            return function(items[turn])
        finally:
            gate.leave(size)

    with gate:
        for turn, result in map_ordered(one, range(len(items)), workers, give_up=gate.close):
            yield items[turn], result


class Background:
    """Pieces of work done one after the other in a thread of their own, at most ``ahead`` waiting; inline where ``threaded`` is off.

    Leaving the ``with`` block waits for all of them; leaving it by an error drops those that have not begun. What a piece raises is
    raised in the calling thread, by a later ``do`` or at the end.
    """

    def __init__(self, threaded: bool, ahead: int, start_thread: Callable[[], None] | None = None) -> None:
        self._ahead = ahead
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="autounet", initializer=start_thread) if threaded else None
        self._pending: deque[Future[None]] = deque()

    def do(self, work: Callable[[], None]) -> None:
        """Hands over a piece; waits until no more than ``ahead`` are unfinished besides it."""
        if self._pool is None:
            work()
            return
        self._pending.append(self._pool.submit(work))
        while len(self._pending) > self._ahead:
            self._pending.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._pool is None:
            return
        try:
            while self._pending and kind is None:
                self._pending.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)


class Closed(Exception):
    """The gate was closed while somebody waited: the work is being given up."""


class Gate:
    """Lets work in by turns, as long as the sizes of all that is inside stay within a limit. What is larger goes in alone.

    Whoever leaves must not depend on somebody who waits. Leaving the ``with`` block closes the gate: those who wait get ``Closed``.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._inside, self._count, self._turn, self._closed = limit, 0, 0, 0, False
        self._changed = threading.Condition()

    def enter(self, turn: int, size: int) -> None:
        """Waits for number ``turn`` (0, 1, 2, …) to be next and for ``size`` to fit."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._turn == turn and (not self._count or self._inside + size <= self._limit)))
            if self._closed:
                raise Closed
            self._inside, self._count, self._turn = self._inside + size, self._count + 1, turn + 1
            self._changed.notify_all()

    def leave(self, size: int) -> None:
        """Makes room."""
        with self._changed:
            self._inside, self._count = self._inside - size, self._count - 1
            self._changed.notify_all()

    def close(self) -> None:
        """From now on nobody is let in."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
