"""What the loop of refreshes earns over never refreshing: simulated on a log, in one process."""
