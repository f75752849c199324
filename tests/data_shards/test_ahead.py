"""Work ahead: in order, within its budget, and gone when nobody wants it any more."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.ahead import in_order, under_way


@settings(max_examples=50, deadline=None)
@given(costs=st.lists(st.integers(1, 100), max_size=60), ahead=st.integers(0, 200))
def test_results_come_in_order_and_no_more_is_begun_than_the_budget_allows(
    costs: list[int], ahead: int
) -> None:
    begun: list[int] = []

    def drawn() -> object:
        for number, cost in enumerate(costs):
            begun.append(cost)
            yield number, cost

    with ThreadPoolExecutor(3) as pool:
        futures = under_way(pool, lambda item: item[0], drawn(), ahead=ahead, cost=lambda item: item[1])
        for number, future in enumerate(futures):
            assert future.result() == number
            beyond = begun[number + 1 :]
            assert sum(beyond[:-1]) <= ahead  # the last one drawn may be what went over the budget
    assert begun == costs


def test_an_exception_surfaces_at_its_turn() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, work, range(10), ahead=5)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)


def test_what_is_not_wanted_any_more_is_not_done() -> None:
    go_on = threading.Event()
    done: list[int] = []

    def work(number: int) -> int:
        if number > 0:
            assert go_on.wait(10)
        done.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(100), ahead=50)
        assert next(results) == 0
        results.close()
        go_on.set()
    assert len(done) <= 2  # one may have been begun
