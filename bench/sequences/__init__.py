"""`panther bench seqrec` and `rerank`: hit rates and NDCG of the next item on public sequence sets.

PANTHER's layers stand beside Transformer, SASRec and HSTU, with everything else equal. seqrec_table.py and
rerank_table.py are the two protocols; the other files are what both are made of.
"""
