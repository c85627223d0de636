"""`panther bench ablation` and `panther bench transfer`: hit rates and NDCG of the next transaction."""
