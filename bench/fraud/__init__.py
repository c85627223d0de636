"""`panther bench fdh` and `panther bench fraud`: fraud metrics of PANTHER's system and other heads on public data."""
