//! `tollgate org import` and `tollgate member import`: the directory from CSV files. What would change is shown first.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::directory::{Place, id_of, with_directory};
use super::ledger::Noted;
use super::{Exit, Source};
use crate::config::orgs::from_words;
use crate::identity::access::TenantId;
use crate::identity::addresses::Networks;
use crate::identity::directory::store::PutStanding;
use crate::identity::{DEFAULT_ROLE, Member, Org, ROLES, Standing, is_user_id};

/// The columns of a file of orgs. `domains` and `join` hold words with a semicolon between them.
const ORG_COLUMNS: [&str; 10] = ["id", "name", "domains", "plan", "time_zone", "policy", "tenant_id", "join", "language", "status"];

/// The columns of a file of members. `addresses` holds networks with a semicolon between them.
const MEMBER_COLUMNS: [&str; 8] = ["org", "external_id", "librechat_id", "email", "name", "role", "status", "addresses"];

/// So many lines of a report are shown.
const SHOWN: usize = 200;

/// What is imported.
#[derive(Debug, Clone)]
pub struct ImportAsked {
    /// The CSV file, with the names of its columns in its first line.
    pub file: PathBuf,
    /// Whether it is done; otherwise it is only shown.
    pub apply: bool,
}

/// One line of a file: its number and its words, by column.
struct Line {
    number: u64,
    words: BTreeMap<String, String>,
}

impl Line {
    /// The word in this column; nothing where it is empty or there is no such column.
    fn word(&self, column: &str) -> Option<Arc<str>> {
        self.words.get(column).filter(|word| !word.is_empty()).map(|word| word.as_str().into())
    }
}

/// What a file does to the directory.
#[derive(Default)]
struct Report {
    said: Vec<String>,
    added: usize,
    changed: usize,
    unchanged: usize,
    wrong: Vec<String>,
}

impl Report {
    fn text(&self, what: &str, is_done: bool) -> String {
        let mut text = String::new();
        for line in self.said.iter().take(SHOWN) {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        }
        if self.said.len() > SHOWN {
            let _ = writeln!(text, "... and {} more", self.said.len() - SHOWN);
        }
        let Self { added, changed, unchanged, .. } = self;
        let _ = writeln!(text, "{added} {what} new, {changed} changed, {unchanged} as they are.");
        let _ =
            writeln!(text, "{}", if is_done { "Done, on every replica within a second." } else { "Nothing was changed; --apply does it." });
        text
    }

    fn compare(&mut self, name: &str, before: Option<Vec<(&str, String)>>, after: &[(&str, String)]) -> bool {
        let Some(before) = before else {
            self.added += 1;
            self.said.push(format!("+ {name}"));
            return true;
        };
        let differences: Vec<String> = before
            .iter()
            .zip(after)
            .filter(|(before, after)| before != after)
            .map(|((field, before), (_, after))| format!("{field} {before} -> {after}"))
            .collect();
        if differences.is_empty() {
            self.unchanged += 1;
            return false;
        }
        self.changed += 1;
        self.said.push(format!("~ {name}: {}", differences.join(", ")));
        true
    }
}

/// What only one org may have, and which has it.
#[derive(Default)]
struct Taken {
    domains: HashMap<String, Arc<str>>,
    tenants: HashMap<String, Arc<str>>,
}

impl Taken {
    fn by(&mut self, org: &Org) {
        self.domains.extend(org.domains.iter().map(|domain| (domain.clone(), org.id.clone())));
        self.tenants.extend(org.access.tenant.iter().map(|tenant| (tenant.to_string(), org.id.clone())));
    }

    /// What is another org's already.
    fn of_others(&self, org: &Org) -> impl Iterator<Item = String> {
        let domains = org.domains.iter().map(|domain| (self.domains.get(domain), format!("the domain {domain}")));
        let tenant = org.access.tenant.iter().map(|tenant| (self.tenants.get(tenant.as_str()), format!("the tenant {tenant}")));
        let others = domains.chain(tenant).filter_map(|(owner, what)| Some((owner?, what))).filter(|(owner, _)| **owner != org.id);
        others.map(|(owner, what)| format!("{what} is org {owner}'s already"))
    }
}

/// `tollgate org import`.
pub fn import_orgs(source: &Source, asked: &ImportAsked) -> Exit {
    with_directory(source, async |config, place, now| {
        let mut report = Report::default();
        let mut orgs: BTreeMap<Arc<str>, Org> = BTreeMap::new();
        let mut taken = Taken::default();
        for org in place.directory.orgs() {
            taken.by(&org);
        }
        for line in read(asked, &ORG_COLUMNS)? {
            match org_of(&line, place) {
                Ok(org) if config.orgs.iter().any(|named| named.id == org.id) => {
                    report.wrong.push(format!("line {}: org {} stands in the configuration; change it there", line.number, org.id));
                }
                Ok(org) if orgs.contains_key(&org.id) => report.wrong.push(format!("line {}: org {} is there twice", line.number, org.id)),
                Ok(org) => {
                    report.wrong.extend(taken.of_others(&org).map(|reason| format!("line {}: {reason}", line.number)));
                    taken.by(&org);
                    orgs.insert(org.id.clone(), org);
                }
                Err(reasons) => report.wrong.extend(reasons.into_iter().map(|reason| format!("line {}: {reason}", line.number))),
            }
        }
        refuse_wrong(&report, asked)?;
        let changed: Vec<Org> = orgs
            .into_values()
            .filter(|org| {
                let before = place.directory.by_id(&org.id);
                report.compare(&format!("org {}", org.id), before.as_deref().map(org_fields), &org_fields(org))
            })
            .collect();
        if asked.apply && !changed.is_empty() {
            note(place, "org.imported", asked, &report, now).await?;
            place.store.put_orgs(&changed, PutStanding::Written, now).await.map_err(|error| error.to_string())?;
        }
        Ok(report.text("orgs", asked.apply))
    })
}

/// `tollgate member import`.
pub fn import_members(source: &Source, asked: &ImportAsked) -> Exit {
    with_directory(source, async |_, place, now| {
        let mut report = Report::default();
        let known = Known::of(&place.members);
        let mut seen: HashMap<Uuid, u64> = HashMap::new();
        let mut changed = Vec::new();
        for line in read(asked, &MEMBER_COLUMNS)? {
            match member_of(&line, place, &known) {
                Ok((before, after)) => {
                    if let Some(other) = seen.insert(after.id, line.number) {
                        report.wrong.push(format!("line {}: the same person as in line {other}", line.number));
                        continue;
                    }
                    let name = format!("member {} of {}", after.email.as_deref().map_or_else(|| id_of(&after), str::to_owned), after.org);
                    if report.compare(&name, before.map(member_fields), &member_fields(&after)) {
                        changed.push(after);
                    }
                }
                Err(reason) => report.wrong.push(format!("line {}: {reason}", line.number)),
            }
        }
        refuse_wrong(&report, asked)?;
        if asked.apply && !changed.is_empty() {
            note(place, "member.imported", asked, &report, now).await?;
            place.store.put_members(&changed, now).await.map_err(|error| error.to_string())?;
        }
        Ok(report.text("members", asked.apply))
    })
}

/// All or nothing: a file with anything wrong in it changes nothing.
fn refuse_wrong(report: &Report, asked: &ImportAsked) -> Result<(), String> {
    if report.wrong.is_empty() {
        return Ok(());
    }
    let shown = report.wrong.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    Err(format!("{} cannot be imported, and nothing was changed:\n{shown}", asked.file.display()))
}

async fn note(place: &Place, action: &'static str, asked: &ImportAsked, report: &Report, now: jiff::Timestamp) -> Result<(), String> {
    let Report { added, changed, .. } = report;
    let detail = serde_json::json!({ "added": added, "changed": changed });
    let which = asked.file.display().to_string();
    place.opened.note(Noted { action, org: None, kind: "file", which, detail: Some(detail) }, now).await
}

fn read(asked: &ImportAsked, columns: &[&str]) -> Result<Vec<Line>, String> {
    let unreadable = |error: csv::Error| format!("{} cannot be read: {error}", asked.file.display());
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(&asked.file).map_err(unreadable)?;
    let names: Vec<String> =
        reader.headers().map_err(unreadable)?.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned()).collect();
    if let Some(unknown) = names.iter().find(|name| !columns.contains(&name.as_str())) {
        return Err(format!("{}: \"{unknown}\" is no column; the columns are: {}", asked.file.display(), columns.join(", ")));
    }
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let number = record.position().map_or(0, csv::Position::line);
        lines.push(Line { number, words: names.iter().cloned().zip(record.iter().map(str::to_owned)).collect() });
    }
    Ok(lines)
}

/// The org of a line: as it was, with what the line says.
fn org_of(line: &Line, place: &Place) -> Result<Org, Vec<String>> {
    let standing = standing_of(line).map_err(|reason| vec![reason])?;
    let before = line.word("id").and_then(|id| place.directory.by_id(&id));
    let mut words = before.as_deref().map(words_of).unwrap_or_default();
    words.extend(
        line.words
            .iter()
            .filter(|(column, word)| *column != "status" && !word.is_empty())
            .map(|(column, word)| (column.clone(), word.clone())),
    );
    let org = from_words(&words)?;
    let kept = before.as_ref().map_or(Standing::Active, |before| before.standing);
    Ok(Org { standing: standing.unwrap_or(kept), ..org })
}

fn words_of(org: &Org) -> BTreeMap<String, String> {
    let mut words: BTreeMap<String, String> = org_fields(org).into_iter().map(|(field, word)| (field.to_owned(), word)).collect();
    words.remove("status");
    words.retain(|_, word| word != "-");
    words.insert("capture".to_owned(), org.capture.as_str().to_owned());
    words.insert("legal_hold".to_owned(), org.legal_hold.to_string());
    words
}

fn org_fields(org: &Org) -> Vec<(&'static str, String)> {
    let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    vec![
        ("id", org.id.to_string()),
        ("name", org.name.to_string()),
        ("domains", if org.domains.is_empty() { "-".to_owned() } else { org.domains.join(";") }),
        ("plan", or_dash(org.plan.as_deref())),
        ("time_zone", or_dash(org.zone.iana_name())),
        ("policy", or_dash(org.policy.as_deref())),
        ("tenant_id", or_dash(org.access.tenant.as_ref().map(TenantId::as_str))),
        ("join", org.joining.text().to_owned()),
        ("language", or_dash(org.language.map(crate::identity::directory::Language::as_str))),
        ("status", org.standing.as_str().to_owned()),
    ]
}

fn standing_of(line: &Line) -> Result<Option<Standing>, String> {
    let Some(word) = line.word("status") else { return Ok(None) };
    Standing::from_word(&word).map(Some).ok_or_else(|| format!("\"{word}\" is no status; allowed: active, suspended"))
}

/// Members by what a line may know them by.
struct Known<'a> {
    librechat_id: HashMap<&'a str, &'a Member>,
    external_id: HashMap<(&'a str, &'a str), &'a Member>,
    email: HashMap<(&'a str, &'a str), &'a Member>,
}

impl<'a> Known<'a> {
    fn of(members: &'a [Member]) -> Self {
        let keyed = |key: fn(&Member) -> Option<&Arc<str>>| {
            members.iter().filter_map(move |member| Some(((&*member.org, &**key(member)?), member)))
        };
        Self {
            librechat_id: keyed(|member| member.librechat_id.as_ref()).map(|((_, id), member)| (id, member)).collect(),
            external_id: keyed(|member| member.external_id.as_ref()).collect(),
            email: keyed(|member| member.email.as_ref()).collect(),
        }
    }
}

/// The member of a line: who they were, if they are known, and who they are to be.
fn member_of<'a>(line: &Line, place: &Place, known: &Known<'a>) -> Result<(Option<&'a Member>, Member), String> {
    let org = line.word("org").ok_or("it has no org")?;
    if place.directory.by_id(&org).is_none() {
        return Err(format!("there is no org \"{org}\""));
    }
    let (external_id, librechat_id) = (line.word("external_id"), line.word("librechat_id"));
    let email = line.word("email").map(|email| Arc::from(email.to_lowercase()));
    if let Some(id) = librechat_id.as_ref().filter(|id| !is_user_id(id)) {
        return Err(format!("\"{id}\" is no LibreChat id: 24 digits and letters from a to f, in lower case"));
    }
    if let Some(email) = email.as_ref().filter(|email: &&Arc<str>| !email.contains('@')) {
        return Err(format!("\"{email}\" is no e-mail address"));
    }
    let role = line.word("role");
    if let Some(role) = role.as_ref().filter(|role| !ROLES.contains(&&***role)) {
        return Err(format!("\"{role}\" is no role; the roles are: {}", ROLES.join(", ")));
    }
    let standing = standing_of(line)?;
    let addresses = line.word("addresses").map(|list| Networks::read(list.split(';'))).transpose()?;
    let before = librechat_id
        .as_deref()
        .and_then(|id| known.librechat_id.get(id))
        .or_else(|| known.external_id.get(&(&*org, external_id.as_deref()?)))
        .or_else(|| known.email.get(&(&*org, email.as_deref()?)))
        .copied();
    if before.is_none() && external_id.is_none() && librechat_id.is_none() && email.is_none() {
        return Err("it names nobody: give external_id, librechat_id or email".to_owned());
    }
    let after = match before {
        Some(before) => Member {
            org,
            external_id: external_id.or_else(|| before.external_id.clone()),
            librechat_id: librechat_id.or_else(|| before.librechat_id.clone()),
            email: email.or_else(|| before.email.clone()),
            name: line.word("name").or_else(|| before.name.clone()),
            role: role.unwrap_or_else(|| before.role.clone()),
            standing: standing.unwrap_or(before.standing),
            addresses: addresses.or_else(|| before.addresses.clone()),
            ..before.clone()
        },
        None => Member {
            id: Uuid::now_v7(),
            org,
            external_id,
            librechat_id,
            email,
            name: line.word("name"),
            role: role.unwrap_or_else(|| DEFAULT_ROLE.into()),
            standing: standing.unwrap_or_default(),
            addresses,
            last_seen: None,
        },
    };
    Ok((before, after))
}

fn member_fields(member: &Member) -> Vec<(&'static str, String)> {
    let or_dash = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
    vec![
        ("org", member.org.to_string()),
        ("external_id", or_dash(&member.external_id)),
        ("librechat_id", or_dash(&member.librechat_id)),
        ("email", or_dash(&member.email)),
        ("name", or_dash(&member.name)),
        ("role", member.role.to_string()),
        ("status", member.standing.as_str().to_owned()),
        ("addresses", member.addresses.as_ref().map_or_else(|| "-".to_owned(), |networks| networks.text().replace(',', ";"))),
    ]
}
