# SPDX-License-Identifier: MIT
"""Whether a checkpoint fits the database: it may rest on rows that a power cut took, or that an older backup lacks.

In: what a checkpoint claims.  Out: a verdict.  The database knows the digest of the rows that have scores.  The rows
between the last of these and the checkpoint's last one, in whatever order, have to lead from one digest to the other.
That covers all rows of the model since its first, and reads a few.
"""

from __future__ import annotations

from sqlalchemy import Connection

from htmengine.messages import digest
from htmengine.model_swapper.turns import Claim, Verdict
from htmengine.repository import counts, queries

#: A checkpoint that is further from the scored rows is only asked for its last row.
ROWS_READ = 20_000


def judge(conn: Connection, uid: str, generation: int, claim: Claim) -> Verdict | None:
    """What the database says to a checkpoint's claim; None: the metric has no such model any more.

    What cannot be checked, since rows were removed as too old or an earlier release wrote the checkpoint, is believed.
    """
    metric = queries.find_metric_by_uid(conn, uid)
    score = counts.get_scores(conn, [uid]).get(uid)
    if metric is None or metric.definition is None or metric.definition.generation != generation:
        return None
    if score is None or score.generation != generation:
        return None
    if claim.rowid > metric.last_rowid:
        return Verdict(claim, False, score.rowid)
    first, last = sorted((claim.rowid, score.rowid))
    if last - first > ROWS_READ:
        return Verdict(claim, True, score.rowid, claim.digest)
    rows = queries.samples_between(conn, uid, first, last)
    if claim.rowid < score.rowid:
        reached = digest.after_rows(claim.digest, first, rows)
        fits = reached is None or score.digest is None or len(rows) < last - first or reached == score.digest
        return Verdict(claim, fits, score.rowid, claim.digest)
    known = digest.after_rows(score.digest, first, rows) if len(rows) == last - first else None
    fits = known is None or claim.digest is None or known == claim.digest
    return Verdict(claim, fits, score.rowid, claim.digest if known is None else known)
