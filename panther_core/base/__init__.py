"""What everything else stands on: errors, what is said to people, settings, units of time."""
