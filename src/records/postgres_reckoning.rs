//! What usage rows add up to in a PostgreSQL database.

use async_trait::async_trait;
use sqlx::postgres::PgRow;

use super::postgres::{PostgresRecords, timestamptz};
use super::reckoning::{Reckoning, Which};
use super::store::{MemberDay, UtcDay};
use super::{ReadError, sql, sql_ledger};

const BY_ORG: &str = "SELECT org_id, member_id, org_day, org_month, SUM(messages)::BIGINT AS messages, \
    SUM(total_tokens >> 32)::BIGINT AS tokens_upper, SUM(total_tokens & 4294967295)::BIGINT AS tokens_lower, \
    SUM(cost_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_events WHERE time >= $1 AND generation_id < $2 AND org_id = $3 \
    GROUP BY org_id, member_id, org_day, org_month ORDER BY org_id, member_id, org_day";

const ORG_CORRECTIONS: &str = "SELECT org_id, member_id, org_day, org_month, \
    SUM(cost_difference_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_difference_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_corrections WHERE usage_time >= $1 AND generation_id < $2 AND org_id = $3 \
    GROUP BY org_id, member_id, org_day, org_month";

const BY_EVERYONE: &str = "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS utc_day, SUM(messages)::BIGINT AS messages, \
    SUM(total_tokens >> 32)::BIGINT AS tokens_upper, SUM(total_tokens & 4294967295)::BIGINT AS tokens_lower, \
    SUM(cost_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_events WHERE time >= $1 AND generation_id < $2 GROUP BY utc_day ORDER BY utc_day";

const EVERYONES_CORRECTIONS: &str = "SELECT to_char(usage_time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS utc_day, \
    SUM(cost_difference_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_difference_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_corrections WHERE usage_time >= $1 AND generation_id < $2 GROUP BY utc_day";

impl PostgresRecords {
    /// The sums of a statement over these generations, of one org where it asks for one.
    async fn sums(&self, select: &'static str, which: Which, org: Option<&str>) -> Result<Vec<PgRow>, ReadError> {
        let query = sqlx::query(select).bind(timestamptz(which.since)).bind(which.before);
        let query = org.into_iter().fold(query, |query, org| query.bind(org.to_owned()));
        query.fetch_all(&self.readers).await.map_err(|error| sql::unavailable(&error))
    }
}

#[async_trait]
impl Reckoning for PostgresRecords {
    async fn used_by_org(&self, org: &str, which: Which) -> Result<Vec<MemberDay>, ReadError> {
        let days = self.sums(BY_ORG, which, Some(org)).await?.iter().map(sql::member_day).collect::<Result<_, _>>()?;
        sql_ledger::correct_members(days, &self.sums(ORG_CORRECTIONS, which, Some(org)).await?)
    }

    async fn used_by_everyone(&self, which: Which) -> Result<Vec<UtcDay>, ReadError> {
        let days = self.sums(BY_EVERYONE, which, None).await?.iter().map(sql::utc_day).collect::<Result<_, _>>()?;
        sql_ledger::correct_days(days, &self.sums(EVERYONES_CORRECTIONS, which, None).await?)
    }
}
