"""Chaos: troubles on a real system under load, and the books that say whether it kept its word."""
