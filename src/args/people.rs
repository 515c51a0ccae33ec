//! Orgs, their members, and how those sign in.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Subcommand};
use tollgate::cli::{self, Change, Exit, ImportAsked, KeyAsked, MembersOf, SessionsOf, Source};
use tollgate::identity::ROLES;

use super::{Settings, Shown};

#[derive(Subcommand)]
pub enum OrgCommand {
    /// Show every org
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Take orgs from a CSV file; shows what would change unless --apply is given
    Import(Import),
    /// Let an org use nothing that costs something, from now on
    Suspend(OneOrg),
    /// Let it again
    Resume(OneOrg),
}

#[derive(Args)]
pub struct OneOrg {
    /// The org's id
    #[arg(long)]
    pub org: String,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Args)]
pub struct Import {
    /// The CSV file; its first line names the columns
    #[arg(value_name = "FILE")]
    pub csv: PathBuf,
    /// Do it
    #[arg(long)]
    pub apply: bool,
    #[command(flatten)]
    pub settings: Settings,
}

impl Import {
    pub fn parts(self) -> (Source, ImportAsked) {
        (self.settings.source(), ImportAsked { file: self.csv, apply: self.apply })
    }
}

#[derive(Args)]
pub struct OneMember {
    /// The org's id
    #[arg(long)]
    pub org: String,
    /// A LibreChat id, an external id, or an e-mail address
    #[arg(long)]
    pub member: String,
    #[command(flatten)]
    pub settings: Settings,
}

impl OneMember {
    pub fn change(self, change: &Change) -> Exit {
        cli::change_member(&self.settings.source(), &self.org, &self.member, change)
    }
}

#[derive(Subcommand)]
pub enum MemberCommand {
    /// Show the members of an org
    List(OneOrg),
    /// Show people of LibreChat whom no org claims
    Unclaimed {
        #[command(flatten)]
        settings: Settings,
    },
    /// Take members from a CSV file; shows what would change unless --apply is given
    Import(Import),
    /// Let a member use nothing that costs something, from now on; what runs for them ends
    Suspend(OneMember),
    /// Let them again
    Resume(OneMember),
    /// Give a member another role
    Role {
        /// The role
        #[arg(value_parser = PossibleValuesParser::new(ROLES))]
        role: String,
        #[command(flatten)]
        member: OneMember,
    },
    /// Say where a member may come from, on top of where their org lets them
    Ranges {
        /// Networks with commas between them, or anywhere
        #[arg(value_name = "RANGES")]
        ranges: String,
        #[command(flatten)]
        member: OneMember,
    },
    /// Show when a member signed in with LibreChat's own account, or somebody tried to
    Logins {
        /// So many days back
        #[arg(long, default_value_t = 30)]
        days: u16,
        #[command(flatten)]
        member: OneMember,
    },
    /// Make unreadable, for ever, what the audit log knows of a person beyond their id
    Erase {
        /// The org's id
        #[arg(long)]
        org: String,
        /// The member's id: the user's id in LibreChat
        #[arg(long)]
        member: String,
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Subcommand)]
pub enum SessionCommand {
    /// Show the sessions of an org
    List(WhoseSessions),
    /// Sign people out, on every replica; answers that run in their sessions end
    // Nobody signs a whole org out by leaving a word out.
    #[command(group(ArgGroup::new("which").required(true).args(["all", "member", "id"])))]
    Revoke {
        /// All sessions of the org
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        whose: WhoseSessions,
    },
}

#[derive(Args)]
pub struct WhoseSessions {
    /// The org's id
    #[arg(long)]
    pub org: String,
    /// Only those of this member: a LibreChat id, an external id or an e-mail address
    #[arg(long, conflicts_with = "id")]
    pub member: Option<String>,
    /// Only this session
    #[arg(long, value_name = "SESSION")]
    pub id: Option<uuid::Uuid>,
    #[command(flatten)]
    pub settings: Settings,
}

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a key for a member, and show it this once
    Create {
        /// What it is called
        #[arg(long)]
        name: String,
        /// What it may, with commas between: chat, read, usage
        #[arg(long)]
        scopes: String,
        /// After how many days it ends; as late as it may when left out
        #[arg(long, value_name = "DAYS")]
        expires_days: Option<u32>,
        /// Where it may be used: networks with commas between them; anywhere when left out
        #[arg(long, value_name = "RANGES")]
        address_ranges: Option<String>,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        member: OneMember,
    },
    /// Show the keys of an org, or of one member
    List {
        /// The org's id
        #[arg(long)]
        org: String,
        /// A LibreChat id, an external id, or an e-mail address; everyone when left out
        #[arg(long)]
        member: Option<String>,
        #[command(flatten)]
        shown: Shown,
        #[command(flatten)]
        settings: Settings,
    },
    /// End a key, on every replica within a second
    Revoke {
        /// The key's id
        id: String,
        #[command(flatten)]
        org: OneOrg,
    },
}

#[derive(Subcommand)]
pub enum LockoutsCommand {
    /// Show what is locked now
    List {
        #[command(flatten)]
        settings: Settings,
    },
    /// Open a lock before its time, and forget the failures behind it
    Open {
        /// An e-mail address, the LibreChat id of somebody whose codes failed, or a network address
        name: String,
        #[command(flatten)]
        settings: Settings,
    },
}

impl OrgCommand {
    pub fn run(self) -> Exit {
        match self {
            Self::List { settings } => cli::list_orgs(&settings.source()),
            Self::Import(import) => {
                let (source, asked) = import.parts();
                cli::import_orgs(&source, &asked)
            }
            Self::Suspend(OneOrg { org, settings }) => cli::change_org(&settings.source(), &org, &Change::Suspend),
            Self::Resume(OneOrg { org, settings }) => cli::change_org(&settings.source(), &org, &Change::Resume),
        }
    }
}

impl SessionCommand {
    pub fn run(self) -> Exit {
        match self {
            Self::List(whose) => {
                let of = whose.of();
                cli::list_sessions(&whose.settings.source(), &whose.org, &of)
            }
            Self::Revoke { whose, .. } => {
                let of = whose.of();
                cli::revoke_sessions(&whose.settings.source(), &whose.org, &of)
            }
        }
    }
}

impl WhoseSessions {
    pub fn of(&self) -> SessionsOf {
        match (&self.member, self.id) {
            (_, Some(id)) => SessionsOf::One(id),
            (Some(member), None) => SessionsOf::Member(member.clone()),
            (None, None) => SessionsOf::Org,
        }
    }
}

impl KeyCommand {
    pub fn run(self) -> Exit {
        match self {
            Self::Create { name, scopes, expires_days, address_ranges, shown, member } => {
                let OneMember { org, member, settings } = member;
                let asked = KeyAsked { org, member, name, scopes, expires_days, address_ranges };
                cli::create_key(&settings.source(), &asked, shown.format())
            }
            Self::List { org, member, shown, settings } => cli::list_keys(&settings.source(), &org, member.as_deref(), shown.format()),
            Self::Revoke { id, org } => cli::revoke_key(&org.settings.source(), &org.org, &id),
        }
    }
}

impl MemberCommand {
    pub fn run(self) -> Exit {
        match self {
            Self::List(OneOrg { org, settings }) => cli::list_members(&settings.source(), &MembersOf::Org(org)),
            Self::Unclaimed { settings } => cli::list_members(&settings.source(), &MembersOf::Nobody),
            Self::Import(import) => {
                let (source, asked) = import.parts();
                cli::import_members(&source, &asked)
            }
            Self::Suspend(member) => member.change(&Change::Suspend),
            Self::Resume(member) => member.change(&Change::Resume),
            Self::Role { role, member } => member.change(&Change::Role(role)),
            Self::Ranges { ranges, member } => member.change(&Change::Ranges(ranges)),
            Self::Logins { days, member } => cli::member_logins(&member.settings.source(), &member.org, &member.member, days),
            Self::Erase { org, member, settings } => cli::erase_member(&settings.source(), &org, &member),
        }
    }
}
