"""Ordered, bounded work in threads."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from autounet.errors import AutounetError, ImageError
from autounet.parallel import Background, Closed, Gate, map_ordered, map_within

PATIENCE = 10.0
"""Seconds after which a thread that should have gone on is taken for stuck."""


def workers_alive() -> int:
    return sum(thread.name.startswith("autounet") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    def later_is_faster(item: int) -> int:
        time.sleep((6 - item) * 0.005)
        return item * item

    assert list(map_ordered(later_is_faster, range(6), workers)) == [(item, item * item) for item in range(6)]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_nothing_to_do(workers: int) -> None:
    assert list(map_ordered(lambda item: item, [], workers)) == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_of_the_data_takes_the_place_of_its_result(workers: int) -> None:
    def half(item: int) -> int:
        if item % 2:
            raise ImageError(f"item {item} is odd")
        return item // 2

    found = [(item, str(result)) for item, result in map_ordered(half, range(5), workers)]
    assert found == [(0, "0"), (1, "item 1 is odd"), (2, "1"), (3, "item 3 is odd"), (4, "2")]
    assert isinstance(next(result for _, result in map_ordered(half, [1], workers)), AutounetError)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_mistake_of_the_program_is_raised_as_it_was(workers: int) -> None:
    def divide(item: int) -> float:
        return 1 / item

    with pytest.raises(ZeroDivisionError):
        list(map_ordered(divide, [1, 0, 1, 1, 1], workers))
    assert workers_alive() == 0


@pytest.mark.parametrize(("workers", "ahead", "most"), [(3, None, 4), (2, 1, 1), (1, 0, 0), (4, 2, 2)])
def test_never_more_than_ahead_of_what_is_consumed(workers: int, ahead: int | None, most: int) -> None:
    """Items are taken from the source only when there is room: memory does not grow with their number."""
    taken = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for item in range(30):
            taken += 1
            yield item

    for consumed, (item, result) in enumerate(map_ordered(lambda item: item, source(), workers, ahead), start=1):
        assert item == result == consumed - 1
        assert taken - consumed <= most
        time.sleep(0.001)
    assert taken == 30


def test_as_many_at_once_as_workers() -> None:
    """Three items that wait for each other end only if three threads have them."""
    barrier = threading.Barrier(3)
    results = list(map_ordered(lambda item: barrier.wait(PATIENCE) >= 0, range(3), 3))
    assert results == [(0, True), (1, True), (2, True)]


def test_without_workers_everything_happens_in_the_calling_thread_one_by_one() -> None:
    log: list[str] = []

    def work(item: int) -> str:
        log.append(f"work {item}")
        return threading.current_thread().name

    for item, name in map_ordered(work, range(3), 0):
        log.append(f"use {item}")
        assert name == threading.current_thread().name
    assert log == ["work 0", "use 0", "work 1", "use 1", "work 2", "use 2"]


def test_closing_early_cancels_what_has_not_begun() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.02)
        return item

    results = map_ordered(work, range(1000), 1, ahead=500)
    assert next(iter(results)) == (0, 0)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 500
    assert workers_alive() == 0


def test_an_error_of_the_source_is_raised() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the list of items broke off")

    with pytest.raises(OSError, match="broke off"):
        list(map_ordered(lambda item: item, source(), 2))
    assert workers_alive() == 0


def test_threads_are_prepared_before_their_first_item() -> None:
    prepared: set[str] = set()
    found = map_ordered(
        lambda item: threading.current_thread().name in prepared,
        range(8),
        3,
        start_thread=lambda: prepared.add(threading.current_thread().name),
    )
    assert all(result is True for _, result in found)


@pytest.mark.parametrize("threaded", [False, True])
def test_background_work_is_done_in_order_and_awaited(threaded: bool) -> None:
    done: list[int] = []
    with Background(threaded, 2) as background:
        for number in range(20):
            background.do(partial(done.append, number))
            assert len(done) >= number - 2  # two may wait
    assert done == list(range(20))
    assert workers_alive() == 0


@pytest.mark.parametrize("threaded", [False, True])
def test_an_error_in_the_background_is_raised_as_it_was(threaded: bool) -> None:
    with pytest.raises(ZeroDivisionError), Background(threaded, 1) as background:
        background.do(partial(divmod, 1, 0))  # type: ignore[arg-type]
    assert workers_alive() == 0


def test_background_work_that_has_not_begun_is_dropped_after_an_error() -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        time.sleep(0.05)

    def interrupted() -> None:
        with Background(True, 50) as background:
            for number in range(50):
                background.do(partial(work, number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(begun) < 10


def test_a_gate_lets_in_what_fits_by_turns() -> None:
    """Of 10: 4 and 5 together; 3, which would fit beside 4 later, only after 12, whose turn is before; 12 alone."""
    gate, inside = Gate(10), list[int]()
    sizes, entered = (4, 5, 12, 3), [threading.Event() for _ in range(4)]

    def enter(turn: int) -> None:
        gate.enter(turn, sizes[turn])
        inside.append(sizes[turn])
        entered[turn].set()

    with gate, ThreadPoolExecutor(4) as pool:
        for turn in (3, 2, 1, 0):
            pool.submit(enter, turn)
        assert entered[0].wait(PATIENCE)
        assert entered[1].wait(PATIENCE)
        assert not entered[2].wait(0.02)
        gate.leave(5)
        assert not entered[2].wait(0.02)
        gate.leave(4)
        assert entered[2].wait(PATIENCE)
        assert not entered[3].wait(0.02)
        gate.leave(12)
        assert entered[3].wait(PATIENCE)
    assert inside[2:] == [12, 3]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_what_is_under_way_stays_within_the_limit(workers: int) -> None:
    """Sizes up to 10 of 10; the one of 12 is done alone. Errors come in place of results, and give their memory back."""
    sizes, inside, most, lock = [3, 4, 5, 12, 2, 2, 2, 10, 1], 0, 0, threading.Lock()

    def work(size: int) -> int:
        nonlocal inside, most
        with lock:
            inside += size
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= size
        if size == 5:
            raise AutounetError("five")
        return 2 * size

    found = list(map_within(work, sizes, lambda size: size, 10, workers))
    assert [item for item, _ in found] == sizes
    assert [str(result) if isinstance(result, AutounetError) else result for _, result in found] == [6, 8, "five", 24, 4, 4, 4, 20, 2]
    assert most == 12


def test_an_error_of_the_program_ends_work_within_a_limit() -> None:
    def work(size: int) -> int:
        raise ArithmeticError(str(size))

    with pytest.raises(ArithmeticError, match="1"):
        list(map_within(work, [1, 10, 10, 10], lambda size: size, 10, 3))


def test_closing_a_gate_frees_those_who_wait() -> None:
    gate = Gate(1)
    with ThreadPoolExecutor(1) as pool:
        with gate:
            gate.enter(0, 1)
            waiting = pool.submit(gate.enter, 1, 1)
        with pytest.raises(Closed):
            waiting.result(PATIENCE)
