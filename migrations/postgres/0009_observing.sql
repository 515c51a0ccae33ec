-- Where limits are watched and not enforced for a while, by `tollgate observe`: one row for each org that ever was, and one
-- with an empty name for the whole place. A row that is off stays, so that every replica hears of it.

CREATE TABLE IF NOT EXISTS observing (
    org_id TEXT PRIMARY KEY,
    is_on BOOLEAN NOT NULL,
    since TIMESTAMPTZ NOT NULL,
    changed_by TEXT NOT NULL,
    revision BIGINT NOT NULL
);
