"""Commands beside a running stream: produce, seed states, read what was published, dead letters."""
