-- What a reader of one org may see. Run by `tollgate reader create`, and by migrating where it was run and tables have grown.
-- TABLES stands for the schema of the tables.
--
-- Whose reader somebody is, is asked of a table that readers cannot see, by the name they signed in with: SET ROLE does
-- not change that name, and no setting is believed. Views are barriers: conditions of the reader's, which may hold
-- functions that tell what they are shown, see only rows that have passed the view's own.

CREATE SCHEMA IF NOT EXISTS tollgate_reader;

CREATE TABLE IF NOT EXISTS tollgate_reader.roles (
    role_name NAME PRIMARY KEY,
    org_id TEXT NOT NULL
);

CREATE OR REPLACE FUNCTION tollgate_reader.org() RETURNS TEXT
LANGUAGE SQL STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'SELECT org_id FROM tollgate_reader.roles WHERE role_name = session_user';

-- Policies of tables ask this function, whoever reads them.
GRANT USAGE ON SCHEMA tollgate_reader TO PUBLIC;

CREATE OR REPLACE VIEW tollgate_reader.usage_events WITH (security_barrier) AS
SELECT * FROM TABLES.usage_events WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.tool_calls WITH (security_barrier) AS
SELECT * FROM TABLES.tool_calls WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.audit_events WITH (security_barrier) AS
SELECT * FROM TABLES.audit_events WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.usage_corrections WITH (security_barrier) AS
SELECT * FROM TABLES.usage_corrections WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.usage_daily WITH (security_barrier) AS
SELECT * FROM TABLES.usage_daily WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.members_daily WITH (security_barrier) AS
SELECT * FROM TABLES.members_daily WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.models_daily WITH (security_barrier) AS
SELECT * FROM TABLES.models_daily WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.usage_by_hour WITH (security_barrier) AS
SELECT * FROM TABLES.usage_by_hour WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.tools_daily WITH (security_barrier) AS
SELECT * FROM TABLES.tools_daily WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.requests_daily WITH (security_barrier) AS
SELECT * FROM TABLES.requests_daily WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.usage_monthly WITH (security_barrier) AS
SELECT * FROM TABLES.usage_monthly WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.tools_monthly WITH (security_barrier) AS
SELECT * FROM TABLES.tools_monthly WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.requests_monthly WITH (security_barrier) AS
SELECT * FROM TABLES.requests_monthly WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.usage_hourly WITH (security_barrier) AS
SELECT * FROM TABLES.usage_hourly WHERE org_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.chat_sessions WITH (security_barrier) AS
SELECT * FROM TABLES.chat_sessions WHERE organization_id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.usage_metrics WITH (security_barrier) AS
SELECT * FROM TABLES.usage_metrics WHERE organization_id = (SELECT tollgate_reader.org());

-- How the org and its people are called, and its calendar; nothing of how they sign in or what is known of their addresses.
CREATE OR REPLACE VIEW tollgate_reader.orgs WITH (security_barrier) AS
SELECT id, name, plan, time_zone, status FROM TABLES.orgs WHERE id = (SELECT tollgate_reader.org());

CREATE OR REPLACE VIEW tollgate_reader.members WITH (security_barrier) AS
SELECT id, org_id, librechat_id, email, name, role, status, created_at, last_seen
FROM TABLES.members WHERE org_id = (SELECT tollgate_reader.org());

-- Readers have no rights on the tables. Should somebody give them some, row security still shows them their org only.
-- TimescaleDB refuses it on what it compresses, which is why there are views. Whoever is no reader passes.
DO $$
DECLARE
    name TEXT;
    is_hypertable BOOLEAN;
BEGIN
    FOREACH name IN ARRAY ARRAY['usage_events', 'tool_calls', 'audit_events', 'usage_corrections', 'usage_daily', 'members_daily', 'models_daily',
        'usage_by_hour', 'tools_daily', 'requests_daily', 'statements'] LOOP
        is_hypertable := FALSE;
        IF to_regclass('timescaledb_information.hypertables') IS NOT NULL THEN
            EXECUTE 'SELECT EXISTS (SELECT FROM timescaledb_information.hypertables WHERE format(''%I'', hypertable_schema) = $1 '
                'AND hypertable_name = $2)' INTO is_hypertable USING 'TABLES', name;
        END IF;
        IF NOT is_hypertable THEN
            EXECUTE format('ALTER TABLE TABLES.%I ENABLE ROW LEVEL SECURITY', name);
            EXECUTE format('DROP POLICY IF EXISTS tollgate_reader ON TABLES.%I', name);
            EXECUTE format('CREATE POLICY tollgate_reader ON TABLES.%I USING ((SELECT tollgate_reader.org()) IS NULL '
                'OR org_id = (SELECT tollgate_reader.org())) WITH CHECK ((SELECT tollgate_reader.org()) IS NULL)', name);
        END IF;
    END LOOP;
END $$;

-- Views that were made anew have lost what was granted on them.
DO $$
DECLARE
    reader NAME;
    seen TEXT;
BEGIN
    FOR reader IN SELECT role_name FROM tollgate_reader.roles JOIN pg_catalog.pg_roles ON rolname = role_name LOOP
        FOR seen IN SELECT viewname FROM pg_catalog.pg_views WHERE schemaname = 'tollgate_reader' LOOP
            EXECUTE format('GRANT SELECT ON tollgate_reader.%I TO %I', seen, reader);
        END LOOP;
    END LOOP;
END $$;
