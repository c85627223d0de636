"""Features of payers and counterparties from their own histories, computed over whole tables of transactions."""
