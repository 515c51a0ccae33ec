-- LibreChats that take no new people, by the name that the configuration gives them (host:port): `tollgate upstream drain`
-- adds them, `undrain` removes them.

CREATE TABLE IF NOT EXISTS drained_upstreams (
    name TEXT PRIMARY KEY,
    since TEXT NOT NULL
);
