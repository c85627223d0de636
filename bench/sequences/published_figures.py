"""Published HR@10 and NDCG@10 by set and model, shown beside the table of `panther bench seqrec`.

From the S3-Rec authors' repository (full ranking, leave-one-out, the user's earlier items left out of the ranking).
"""

from __future__ import annotations

PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "Beauty": {"sasrec": (0.0605, 0.0318), "s3-rec": (0.0647, 0.0327)},
    "Sports_and_Outdoors": {"sasrec": (0.0350, 0.0192), "s3-rec": (0.0385, 0.0204)},
    "LastFM": {"sasrec": (0.0688, 0.0390), "s3-rec": (0.0743, 0.0427)},
}
