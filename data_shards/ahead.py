"""Work ahead of whoever consumes it: bounded, and in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def _one(_: object) -> int:
    return 1


def under_way(
    pool: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    ahead: int,
    cost: Callable[[Item], int] = _one,
) -> Generator[Future[Result], None, None]:
    """The futures of ``work(item)`` in the order of ``items``.

    Beyond the one that was taken last, items go to ``pool`` until they cost more than ``ahead`` together, so that
    there is always one. ``items`` is drawn in the consumer's thread.
    """
    source = iter(items)
    waiting: deque[tuple[int, Future[Result]]] = deque()
    spent = 0
    try:
        while True:
            while spent <= ahead:
                try:
                    item = next(source)
                except StopIteration:
                    break
                waiting.append((cost(item), pool.submit(work, item)))
                spent += waiting[-1][0]
            if not waiting:
                return
            price, future = waiting.popleft()
            spent -= price
            yield future
    finally:
        for _, future in waiting:
            future.cancel()


def in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Generator[Result, None, None]:
    """``map(work, items)`` with up to ``ahead`` items under way in ``pool`` beyond the one being consumed.

    An exception of ``work`` surfaces at its own turn.
    """
    futures = under_way(pool, work, items, ahead=ahead)
    try:
        for future in futures:
            yield future.result()
    finally:
        futures.close()
