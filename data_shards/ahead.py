"""Work ahead of whoever consumes it: bounded, and in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Generator[Result, None, None]:
    """``map(work, items)`` with up to ``ahead`` items under way in ``pool`` beyond the one being consumed.

    ``items`` is drawn in the consumer's thread. An exception of ``work`` surfaces at its own turn.
    """
    source = iter(items)
    under_way: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(source, ahead + 1))
    try:
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(work, item) for item in islice(source, 1))
    finally:
        for future in under_way:
            future.cancel()
