"""How ranks agree to stop."""

import torch
import torch.distributed as dist


class StopAgreement:
    """Tells all ranks at the same step that one of them was asked to stop.

    The question of one step travels while the next one computes, so that nobody waits for the answer. It has
    a gloo group of its own, so that it neither touches a GPU nor mixes with the gradients. Through many ranks it
    travels longer (gloo passes it on in a ring), so it is asked less often there: at 512 every 32 steps.
    """

    def __init__(self, world_size: int) -> None:
        self._every, self._calls = max(1, world_size // 16), 0
        self._group: dist.ProcessGroup | None = None
        if world_size > 1:
            self._group = dist.new_group(backend="gloo")  # type: ignore[assignment]
        self._asked: tuple[dist.Work, torch.Tensor] | None = None

    def agreed(self, requested: bool) -> bool:
        """Call once per step on every rank: whether any rank had been asked to stop when this was last asked."""
        if self._group is None:
            return requested
        self._calls += 1
        if self._calls % self._every:
            return False
        answer = self.settle()
        flag = torch.tensor([int(requested)])
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None, "this process is not in its own group"
        self._asked = work, flag
        return answer

    def settle(self) -> bool:
        """Wait for the question that is under way, if any."""
        if self._asked is None:
            return False
        work, flag = self._asked
        work.wait()
        self._asked = None
        return bool(flag)
