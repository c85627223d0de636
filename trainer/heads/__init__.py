"""Fraud heads on columns of features, by name: gradient boosting, networks, and the columns that they are fitted on."""
