"""Where a sweep runs: a Ray of its own on this machine, or the cluster of the job that it is part of."""
