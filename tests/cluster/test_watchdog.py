"""Who hangs, by the beats of all workers; what the relay makes of it, and of workers that are lost."""

from cluster.notes import Event
from cluster.relay import Orders, Relay
from cluster.watchdog import Beat, Watchdog


def beat(rank, step=5, doing="training", seconds=0.0, process=None, workers=3):
    return Beat(rank, workers, process or f"host {rank}", step, doing, seconds)


def test_nobody_hangs_while_any_worker_moves():
    dog = Watchdog(limit=10)
    assert dog.hear(beat(0, seconds=50), now=0) is not None, "one worker alone, which does not move"
    dog = Watchdog(limit=10)
    dog.hear(beat(1, seconds=1), now=0)
    assert dog.hear(beat(0, seconds=50), now=0) is None


def test_the_one_that_the_others_wait_for_is_named_with_its_step_and_what_it_does():
    dog = Watchdog(limit=10)
    dog.hear(beat(0, seconds=11), now=0)
    dog.hear(beat(2, seconds=12), now=0)
    # Heard last, so that all three have not moved for long enough only now.
    told = [dog.hear(beat(1, doing="waiting for data", seconds=11.6), now=0)]
    assert told == ["worker 1 has been waiting for data in step 5 for 12 s, and the others wait"]


def test_a_worker_one_step_behind_is_named_though_it_trains():
    dog = Watchdog(limit=10)
    dog.hear(beat(0, step=6, doing="waiting for data", seconds=9), now=0)
    dog.hear(beat(1, step=5, seconds=14), now=0)
    assert dog.hear(beat(0, step=6, seconds=20), now=1) == (
        "worker 1 has been training in step 5 for 14 s, and the others wait"
    )


def test_all_of_them_are_named_where_nothing_tells_them_apart():
    dog = Watchdog(limit=10)
    for rank in (0, 1):
        dog.hear(beat(rank, seconds=9, workers=2), now=0)
    dog.hear(beat(0, seconds=11, workers=2), now=2)
    assert (
        dog.hear(beat(1, seconds=11, workers=2), now=2) == "worker 0, 1 has been training in step 5 for 11 s"
    )


def test_a_silent_worker_is_named():
    dog = Watchdog(limit=10)
    dog.hear(beat(0), now=0)
    dog.hear(beat(1, doing="evaluating"), now=0)
    assert dog.hear(beat(0, step=6), now=9) is None
    assert dog.hear(beat(0, step=6), now=11) == (
        "worker 1 has not been heard of for 11 s; its last word was from step 5, evaluating"
    )


def test_workers_that_were_started_anew_are_not_measured_by_the_old_ones():
    dog = Watchdog(limit=10)
    for rank in (0, 1, 2):
        dog.hear(beat(rank, seconds=9), now=0)
    assert dog.hear(beat(0, process="new", workers=2), now=100) is None
    assert dog.hear(beat(1, process="new", workers=2), now=100) is None


def test_the_relay_sends_all_of_a_hanging_group_away_and_none_of_the_next():
    relay = Relay(hang_seconds=10, max_failures=3)
    assert relay.beat(beat(0, seconds=1, workers=2)) == Orders(stop=False, leave=False)
    relay.beat(beat(1, seconds=20, workers=2))
    assert relay.beat(beat(0, seconds=20, workers=2)).leave
    assert relay.beat(beat(1, seconds=20, workers=2)).leave
    (event,) = relay.collect()
    assert event.kind == "warning"
    assert event.step == 5
    assert not relay.beat(beat(0, process="new", workers=2)).leave


def test_failures_count_only_while_no_checkpoint_comes_between_them():
    relay = Relay(hang_seconds=10, max_failures=2)
    for _ in range(5):
        assert relay.lost(["worker 1 died"], 2) is None
        assert relay.lost(["worker 0 died"], 2) is None
        relay.saved(10)
    assert relay.lost(["worker 1 died"], 2) is None
    assert relay.lost(["worker 1 died"], 2) is None
    assert relay.lost(["worker 1 died"], 2) == (
        "gave up after 3 failures with no new checkpoint between them (train.max_failures = 2): worker 1 died"
    )
    assert [event.kind for event in relay.collect()] == ["lost"] * 13


def test_a_worker_that_was_told_to_leave_is_no_failure():
    relay = Relay(hang_seconds=10, max_failures=0)
    for _ in range(3):
        relay.leaving(1)
        assert relay.lost(["worker 1: AskedToLeaveError"], 2) is None
    events = relay.collect()
    assert all(isinstance(event, Event) and event.text == "worker 1 was told to leave" for event in events)
    assert relay.lost(["worker 1 died"], 2) is not None
