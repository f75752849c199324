"""Goes on with the toy sweep in FILE, and kills itself with SIGKILL before its Nth write: `python dying.py FILE N`."""

import os
import signal
import sys

from optuna.storages import RDBStorage

from tests.tune.curves import search, toy_sweep

WRITES = (
    "create_new_trial",
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
)


def dying(kind, die):
    """A storage of a ``kind`` that calls ``die`` before a write once `left` of them are done; None for never."""

    class Dying(kind):
        left = None

    def mortal(name):
        plain = getattr(kind, name)

        def write(self, *args, **keywords):
            if self.left is not None:
                if self.left == 0:
                    die()
                self.left -= 1
            return plain(self, *args, **keywords)

        return write

    for name in WRITES:
        setattr(Dying, name, mortal(name))
    return Dying


if __name__ == "__main__":
    file, writes = sys.argv[1:]
    storage = dying(RDBStorage, lambda: os.kill(os.getpid(), signal.SIGKILL))(f"sqlite:///{file}")
    storage.left = int(writes)
    search(toy_sweep(), storage)
