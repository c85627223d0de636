"""What is known of a counterparty or a payer from its own history, over whole tables of transactions."""
