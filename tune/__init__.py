"""Search for settings: Ray Tune runs trials of `cluster` training, Optuna proposes them and ends hopeless ones."""
