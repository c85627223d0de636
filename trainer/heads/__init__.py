"""Fraud heads on columns of features: gradient boosting and networks, their means, and the columns they are fitted
on."""
