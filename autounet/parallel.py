"""Bounded, ordered work in threads. torch, zlib and ITK release the interpreter's lock, so threads are enough."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from autounet.errors import AutounetError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Iterator[tuple[Item, Result | AutounetError]]:
    """Applies ``function`` to the items and yields (item, result) in the items' order.

    At most ``ahead`` results (default ``workers + 1``) are finished or under way beyond the one being consumed, so memory is
    bounded by that number, not by the number of items. With ``workers=0`` the same work is done inline.
    An AutounetError of one item is yielded in place of its result; any other exception is raised here, as it was.
    """

    def guarded(item: Item) -> Result | AutounetError:
        try:
            return function(item)
        except AutounetError as error:
            return error

    if workers <= 0:
        for item in items:
            yield item, guarded(item)
        return
    pending: deque[tuple[Item, Future[Result | AutounetError]]] = deque()
    limit = workers + 1 if ahead is None else ahead
    with ThreadPoolExecutor(workers, thread_name_prefix="autounet") as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(guarded, item)))
                if len(pending) > limit:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            for _, future in pending:
                future.cancel()
