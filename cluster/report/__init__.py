"""One page about a training run, from the files that the run leaves in its folder."""
