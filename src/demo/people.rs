//! Who plays: five people of two orgs, most of whom may do very little in a day.

use crate::scripted::User;

/// Someone who chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// What they are called.
    pub name: &'static str,
    /// Their e-mail address, whose domain says which org they belong to.
    pub email: &'static str,
    /// The time zone their browser tells, which is their org's.
    pub zone: &'static str,
}

const NEW_YORK: &str = "America/New_York";
const SEOUL: &str = "Asia/Seoul";

/// Has as much as everyone.
pub const ADA: Person = Person { name: "Ada", email: "ada@acme.test", zone: NEW_YORK };
/// May use 1,000 tokens a day.
pub const BEN: Person = Person { name: "Ben", email: "ben@acme.test", zone: NEW_YORK };
/// May send one message a day.
pub const CAROL: Person = Person { name: "Carol", email: "carol@acme.test", zone: NEW_YORK };
/// May spend $0.004 a day.
pub const DAN: Person = Person { name: "Dan", email: "dan@acme.test", zone: NEW_YORK };
/// Of an org that reads Korean; may send one message a day.
pub const MINJI: Person = Person { name: "Minji", email: "minji@hanbit.test", zone: SEOUL };

const EVERYONE: [Person; 5] = [ADA, BEN, CAROL, DAN, MINJI];

impl Person {
    /// Their account in LibreChat.
    pub fn user(self) -> User {
        User::new(self.email)
    }
}

/// Everyone's account in LibreChat.
pub fn users() -> Vec<User> {
    EVERYONE.iter().map(|person| person.user()).collect()
}

/// The name of a member by their id, or the id.
pub fn name_of(member: &str) -> &str {
    EVERYONE.iter().find(|person| person.user().id == member).map_or(member, |person| person.name)
}

/// The orgs and limits of a configuration.
pub fn orgs_and_limits() -> String {
    format!(
        r#"[[orgs]]
id = "acme"
name = "Acme"
domains = ["acme.test"]
time_zone = "{NEW_YORK}"

[[orgs]]
id = "hanbit"
name = "Hanbit"
domains = ["hanbit.test"]
time_zone = "{SEOUL}"
language = "ko"

# What each member may use in a day.
[[limits]]
applies_to = "member"
tokens_per_day = 200_000
messages_per_day = 100
usd_per_day = 1.00

# Ben
[[limits]]
applies_to = "member"
member = "{}"
tokens_per_day = 1_000

# Carol
[[limits]]
applies_to = "member"
member = "{}"
messages_per_day = 1

# Dan
[[limits]]
applies_to = "member"
member = "{}"
usd_per_day = 0.004

[[limits]]
applies_to = "member"
org = "hanbit"
messages_per_day = 1
"#,
        BEN.user().id,
        CAROL.user().id,
        DAN.user().id,
    )
}
