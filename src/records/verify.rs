//! Proves the audit log: walks every chain from its beginning or its anchor, row after row, and compares what it sees
//! with the checkpoints. Rows are read in pages, so that any number of them takes the same memory.

use jiff::Timestamp;
use uuid::Uuid;

use super::chain::{Broken, ChainKey, Head};
use super::chains::{AuditChains, ChainId, Span, Spot};
use super::signing::PublicKey;
use super::witnesses::Witnesses;
use super::{Link, ReadError, StoredAudit};

/// Rows read at once.
const PAGE: u32 = 1000;

/// The most problems that are told one by one; more are counted.
pub const MOST_TOLD: usize = 50;

/// What is to be verified.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only this org; the empty one for rows without.
    pub org: Option<String>,
    /// Only rows of this time.
    pub span: Span,
    /// Rows before this may have no link: those of a version that made none, while it ran beside one that does.
    pub unlinked_until: Option<Timestamp>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whose chain, where it is one's.
    pub chain: Option<ChainId>,
    /// The row, where one is there: its id and time.
    pub row: Option<(Uuid, Timestamp)>,
    /// The number in the chain.
    pub seq: Option<u64>,
    /// What is wrong, in a sentence without its full stop.
    pub what: String,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Report {
    /// Rows whose link was recomputed.
    pub rows: u64,
    /// Chains that were walked.
    pub chains: u64,
    /// Rows without a link, from before there were any.
    pub unlinked: u64,
    /// Rows that retention left before an anchor, verified one by one.
    pub left_over: u64,
    /// Chains that begin after an anchor.
    pub anchored: u64,
    /// Rows that were compared with a checkpoint.
    pub compared: u64,
    /// The first problem of each chain, at most [`MOST_TOLD`].
    pub problems: Vec<Problem>,
    /// All problems.
    pub problem_count: u64,
}

/// What verifies.
#[derive(Debug)]
pub struct Verifier<'a> {
    /// Where the rows are.
    pub chains: &'a dyn AuditChains,
    /// The key of the chains.
    pub key: &'a ChainKey,
    /// Whose signatures are believed.
    pub public: &'a PublicKey,
    /// What the checkpoints say.
    pub witnesses: &'a Witnesses,
}

impl Verifier<'_> {
    /// Verifies everything within `scope`. An error is a database that gives no answer; whatever is wrong with rows is in
    /// the report.
    pub async fn verify(&self, scope: &Scope) -> Result<Report, ReadError> {
        let mut report = Report::default();
        for complaint in self.witnesses.complaints() {
            report.tell(None, None, None, complaint.clone());
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut last: Option<ChainId> = None;
        while let Some(chain) = self.chains.next_chain(last.as_ref()).await? {
            if scope.org.as_ref().is_none_or(|org| *org == chain.org) {
                self.chain(&chain, &scope.span, &mut report).await?;
                seen.insert(chain.clone());
            }
            last = Some(chain);
        }
        self.vanished(scope, &seen, &mut report).await?;
        self.unlinked(scope, &mut report).await?;
        Ok(report)
    }

    /// Walks one chain.
    async fn chain(&self, chain: &ChainId, span: &Span, report: &mut Report) -> Result<(), ReadError> {
        let anchor = self.anchor(chain, report).await?;
        let (mut first, mut last) = (1, u64::MAX);
        if *span != Span::default() {
            let Some(numbers) = self.chains.numbers(chain, span).await? else { return Ok(()) };
            (first, last) = numbers;
        }
        report.chains += 1;
        report.anchored += u64::from(anchor.is_some());
        let mut walk = Walk { verifier: self, chain, anchor: anchor.clone().unwrap_or_default(), head: anchor, told: false, report };
        if first > walk.anchor.seq.saturating_add(1) {
            // What comes before is not asked for: the first row's own word is taken for it.
            walk.head = None;
        } else if walk.head.is_none() {
            walk.head = Some(Head::default());
        }
        let mut spot = Spot::before(first);
        loop {
            let page = match self.chains.rows(chain, spot, last, PAGE).await {
                Ok(page) => page,
                Err(ReadError::Unreadable { column, row, reason, .. }) => {
                    walk.tell(
                        None,
                        None,
                        format!("row {row} cannot be read: column {column}: {reason}; the rest of its chain was not verified"),
                    );
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            for row in &page {
                walk.step(row);
            }
            match page.last() {
                Some(row) if page.len() == PAGE as usize => spot = spot_of(row, spot),
                _ => break,
            }
        }
        if span.to.is_none() {
            walk.end();
        }
        Ok(())
    }

    /// Where retention says it cut the chain off, signed.
    async fn anchor(&self, chain: &ChainId, report: &mut Report) -> Result<Option<Head>, ReadError> {
        let anchors = match self.chains.anchors(chain).await {
            Ok(anchors) => anchors,
            Err(ReadError::Unreadable { column, reason, .. }) => {
                report.tell(Some(chain), None, None, format!("an anchor cannot be read: column {column}: {reason}"));
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let (signed, forged): (Vec<_>, Vec<_>) = anchors.into_iter().partition(|anchor| anchor.is_signed_with(self.public));
        if let Some(forged) = forged.first() {
            report.tell(Some(chain), None, Some(forged.head.seq), "an anchor is forged: its signature is not of this key".to_owned());
        }
        Ok(signed.into_iter().next().map(|anchor| anchor.head))
    }

    /// Chains that checkpoints name and of which no row is left.
    async fn vanished(&self, scope: &Scope, seen: &std::collections::BTreeSet<ChainId>, report: &mut Report) -> Result<(), ReadError> {
        if scope.span != Span::default() {
            return Ok(());
        }
        let asked = |chain: &&ChainId| !seen.contains(*chain) && scope.org.as_ref().is_none_or(|org| *org == chain.org);
        for chain in self.witnesses.chains().filter(asked) {
            let Some((seq, point)) = self.witnesses.newest(chain) else { continue };
            let anchor = self.anchor(chain, report).await?;
            if anchor.is_none_or(|anchor| anchor.seq < seq) {
                let what = format!(
                    "no row of this chain is there, and no anchor accounts for them: the checkpoint of {} says it had {seq}",
                    point.time
                );
                report.tell(Some(chain), None, Some(seq), what);
            }
        }
        Ok(())
    }

    /// Rows without a link belong to the time before there were any.
    async fn unlinked(&self, scope: &Scope, report: &mut Report) -> Result<(), ReadError> {
        let org = scope.org.as_deref();
        report.unlinked = self.chains.count_unlinked(org, &scope.span).await?;
        let Some(linked_since) = self.chains.first_linked().await? else { return Ok(()) };
        let since = linked_since.max(scope.unlinked_until.unwrap_or(linked_since)).max(scope.span.start());
        let late = Span { from: Some(since), to: scope.span.to };
        match self.chains.first_unlinked(org, &late).await {
            Ok(None) => {}
            Ok(Some(row)) => {
                let count = self.chains.count_unlinked(org, &late).await?;
                report.unlinked -= count.min(report.unlinked);
                let what = format!("{}; {count} such {} since {since}", Broken::Unlinked, if count == 1 { "row" } else { "rows" });
                report.tell(None, Some((row.id, row.time)), None, what);
                report.problem_count += count - 1;
            }
            Err(ReadError::Unreadable { column, row, reason, .. }) => {
                report.tell(None, None, None, format!("row {row} cannot be read: column {column}: {reason}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn spot_of(row: &StoredAudit, before: Spot) -> Spot {
    Spot { seq: row.link.as_ref().map_or(before.seq, |link| link.seq), id: row.id, time: row.time }
}

/// A walk along a chain.
struct Walk<'a> {
    verifier: &'a Verifier<'a>,
    chain: &'a ChainId,
    anchor: Head,
    /// The row before; nothing where its place is taken on trust.
    head: Option<Head>,
    /// Whether a problem of this chain was told: those that follow are mostly its consequences.
    told: bool,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn step(&mut self, row: &StoredAudit) {
        self.report.rows += 1;
        let Some(link) = &row.link else { return self.tell(Some(row), None, Broken::Unlinked.to_string()) };
        if link.seq <= self.anchor.seq {
            self.report.left_over += 1;
            if self.verifier.key.holds(row) {
                self.compare(row, link);
            } else {
                self.tell(Some(row), Some(link.seq), Broken::Changed.to_string());
            }
            return;
        }
        let head = self.head.take().unwrap_or_else(|| Head { seq: link.seq.saturating_sub(1), hash: link.previous.clone() });
        let followed = self.verifier.key.follow(self.chain.writer, &self.chain.org, &head, row);
        self.head = Some(match followed {
            Ok(next) => {
                self.compare(row, link);
                next
            }
            Err(broken) => {
                let purged = matches!(broken, Broken::Missing { after, .. } if after == 1 || after == self.anchor.seq.saturating_add(1));
                let hint = if purged { ", and no anchor accounts for them" } else { "" };
                self.tell(Some(row), Some(link.seq), format!("{broken}{hint}"));
                // The walk goes on from here, to see what else is wrong.
                if link.seq > head.seq { Head::of(link) } else { head }
            }
        });
    }

    /// A row that follows from the one before it may still be one that was written anew.
    fn compare(&mut self, row: &StoredAudit, link: &Link) {
        let Some(point) = self.verifier.witnesses.point(self.chain, link.seq) else { return };
        self.report.compared += 1;
        if point.hash != link.hash {
            let what = format!("its hash is not the one in the checkpoint of {}: the chain was written anew", point.time);
            self.tell(Some(row), Some(link.seq), what);
        }
    }

    /// Nothing may be missing after the last row.
    fn end(&mut self) {
        let reached = self.head.as_ref().map_or(0, |head| head.seq).max(self.anchor.seq);
        if let Some((seq, point)) = self.verifier.witnesses.newest(self.chain)
            && seq > reached
        {
            let what =
                format!("rows {} to {seq} are missing at the end: the checkpoint of {} says they were there", reached + 1, point.time);
            self.tell(None, Some(seq), what);
        }
    }

    fn tell(&mut self, row: Option<&StoredAudit>, seq: Option<u64>, what: String) {
        if self.told {
            self.report.problem_count += 1;
            return;
        }
        self.told = true;
        self.report.tell(Some(self.chain), row.map(|row| (row.id, row.time)), seq, what);
    }
}

impl Report {
    fn tell(&mut self, chain: Option<&ChainId>, row: Option<(Uuid, Timestamp)>, seq: Option<u64>, what: String) {
        self.problem_count += 1;
        if self.problems.len() < MOST_TOLD {
            self.problems.push(Problem { chain: chain.cloned(), row, seq, what });
        }
    }
}
