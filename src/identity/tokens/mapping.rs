//! Where an issuer's tokens say what we ask for: which claim is the person's id, which their org, and what their role means.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::{ROLES, TokenError};

/// The largest amount that a limit can hold; a token's cap above it caps nothing.
const LARGEST_LIMIT: u64 = (1 << 53) - 1;

/// The longest id of a person, in bytes (`OpenID` Connect Core 2: 255).
const LONGEST_SUB: usize = 255;

/// The longest e-mail address, in bytes (RFC 5321 4.5.3.1.3).
const LONGEST_EMAIL: usize = 254;

/// Where a claim stands: names, from the outermost object inwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// What stands there. `None` where nothing does, or null; a path that leads through something other than objects is
    /// no path of this token's kind.
    fn find<'v>(&self, claims: &'v Map<String, Value>) -> Result<Option<&'v Value>, TokenError> {
        let Some((last, outer)) = self.0.split_last() else { return Ok(None) };
        let mut object = claims;
        for name in outer {
            match object.get(name) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Object(inner)) => object = inner,
                Some(_) => return Err(TokenError::BadShape),
            }
        }
        Ok(object.get(last).filter(|value| !value.is_null()))
    }

    fn text<'v>(&self, claims: &'v Map<String, Value>) -> Result<Option<&'v str>, TokenError> {
        self.find(claims)?.map(|value| value.as_str().ok_or(TokenError::BadShape)).transpose()
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let dot = if index == 0 { "" } else { "." };
            if is_bare(name) { write!(formatter, "{dot}{name}")? } else { write!(formatter, "{dot}\"{name}\"")? }
        }
        Ok(())
    }
}

impl FromStr for ClaimPath {
    type Err = String;

    /// Reads `app_metadata.org_id`, or `"https://acme.example/org".id`, where a name with a dot or slash is in quotes.
    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "allowed: names with dots between, such as app_metadata.org_id; a name that holds a dot, a slash or a space \
            stands in double quotes, such as '\"https://acme.example/org\".id'";
        let mut names = Vec::new();
        let mut rest = text.trim();
        loop {
            let (name, after) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(|| format!("\"{text}\" is no path of a claim; {ALLOWED}"))?,
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            let fits = !name.is_empty() && (rest.starts_with('"') || is_bare(name));
            if !fits || names.len() == 8 {
                return Err(format!("\"{text}\" is no path of a claim; {ALLOWED}"));
            }
            names.push(name.to_owned());
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None if after.is_empty() => return Ok(Self(names)),
                None => return Err(format!("\"{text}\" is no path of a claim; {ALLOWED}")),
            }
        }
    }
}

/// Whether a name can stand in a path without quotes.
fn is_bare(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:$@#".contains(&byte))
}

impl<'de> serde::Deserialize<'de> for ClaimPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where the org of a token comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrgFrom {
    /// From this claim: a text, a list of one text, or an object with the org's name as its only member.
    Claim(ClaimPath),
    /// It is this one for every token: the issuer knows no orgs.
    Fixed(String),
}

/// Where an issuer's tokens say what we ask for. What is not there is not asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The person's id; every token has one.
    pub sub: ClaimPath,
    /// Their e-mail address; every token has one.
    pub email: ClaimPath,
    /// Whether the address is verified. A token that says it is not is refused.
    pub email_verified: Option<ClaimPath>,
    /// Whether a token that says nothing of it is refused too.
    pub requires_verified_email: bool,
    /// Their full name.
    pub name: Option<ClaimPath>,
    /// Their user name.
    pub username: Option<ClaimPath>,
    /// Where their picture is.
    pub avatar: Option<ClaimPath>,
    /// Their role: one text, or a list of which only those in `roles` count.
    pub role: Option<ClaimPath>,
    /// What the issuer's roles are here. Without it a text counts that is one of ours.
    pub roles: Option<BTreeMap<String, String>>,
    /// Their org.
    pub org: OrgFrom,
    /// What the issuer's orgs are called here. Without it they have the same ids.
    pub org_ids: Option<BTreeMap<String, String>>,
    /// Their plan.
    pub plan: Option<ClaimPath>,
    /// One more monthly token cap for the org.
    pub tokens_per_month: Option<ClaimPath>,
    /// The LibreChat user that they are.
    pub librechat_user_id: ClaimPath,
    /// Claims that every token must have, with these values: they tell tokens of one kind from those of another.
    pub require: Vec<(ClaimPath, String)>,
    /// Whether a token may have a `scope`, as OAuth's access tokens do.
    pub may_have_scope: bool,
}

fn path(names: &[&str]) -> ClaimPath {
    ClaimPath(names.iter().map(ToString::to_string).collect())
}

impl Default for Mapping {
    /// Our own kind: `{sub, email, name, username, avatar, role, organization: {id, plan_type, librechat_config}}`.
    fn default() -> Self {
        Self {
            sub: path(&["sub"]),
            email: path(&["email"]),
            email_verified: Some(path(&["email_verified"])),
            requires_verified_email: false,
            name: Some(path(&["name"])),
            username: Some(path(&["username"])),
            avatar: Some(path(&["avatar"])),
            role: Some(path(&["role"])),
            roles: None,
            org: OrgFrom::Claim(path(&["organization", "id"])),
            org_ids: None,
            plan: Some(path(&["organization", "plan_type"])),
            tokens_per_month: Some(path(&["organization", "librechat_config", "max_tokens"])),
            librechat_user_id: path(&["librechat_user_id"]),
            require: Vec::new(),
            may_have_scope: false,
        }
    }
}

/// An issuer whose tokens we know the shape of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Supabase Auth: access tokens.
    Supabase,
    /// Auth0: ID tokens.
    Auth0,
    /// Keycloak: access tokens.
    Keycloak,
    /// Microsoft Entra ID: ID tokens, or access tokens for an API of one's own, of version 2.0.
    Entra,
    /// Amazon Cognito user pools: ID tokens.
    Cognito,
}

impl Preset {
    /// Where its tokens say what we ask for. Claims that people can write themselves (Supabase's `user_metadata`) are never
    /// believed about org, role or plan, and roles count only where the configuration says what they are here.
    pub fn mapping(self) -> Mapping {
        let standard = Mapping {
            requires_verified_email: true,
            username: Some(path(&["preferred_username"])),
            avatar: Some(path(&["picture"])),
            role: None,
            roles: Some(BTreeMap::new()),
            plan: None,
            tokens_per_month: None,
            may_have_scope: true,
            ..Mapping::default()
        };
        match self {
            Self::Supabase => Mapping {
                // The issuer confirms addresses before it signs anything, and says nothing of it; what stands here is a copy.
                email_verified: Some(path(&["user_metadata", "email_verified"])),
                requires_verified_email: false,
                name: Some(path(&["user_metadata", "full_name"])),
                username: Some(path(&["user_metadata", "user_name"])),
                avatar: Some(path(&["user_metadata", "avatar_url"])),
                role: Some(path(&["app_metadata", "role"])),
                org: OrgFrom::Claim(path(&["app_metadata", "org_id"])),
                plan: Some(path(&["app_metadata", "plan"])),
                librechat_user_id: path(&["app_metadata", "librechat_user_id"]),
                // Neither the public key of the project nor its service key are people.
                require: vec![(path(&["role"]), "authenticated".to_owned())],
                ..standard
            },
            Self::Auth0 => Mapping { username: Some(path(&["nickname"])), org: OrgFrom::Claim(path(&["org_id"])), ..standard },
            Self::Keycloak => Mapping {
                role: Some(path(&["realm_access", "roles"])),
                org: OrgFrom::Claim(path(&["organization"])),
                require: vec![(path(&["typ"]), "Bearer".to_owned())],
                ..standard
            },
            Self::Entra => Mapping {
                sub: path(&["oid"]),
                // Anyone who runs a tenant can write any address into it; this optional claim says that its domain is theirs.
                email_verified: Some(path(&["xms_edov"])),
                avatar: None,
                role: Some(path(&["roles"])),
                org: OrgFrom::Claim(path(&["tid"])),
                require: vec![(path(&["ver"]), "2.0".to_owned())],
                ..standard
            },
            Self::Cognito => Mapping {
                username: Some(path(&["cognito:username"])),
                role: Some(path(&["cognito:groups"])),
                org: OrgFrom::Claim(path(&["custom:org_id"])),
                require: vec![(path(&["token_use"]), "id".to_owned())],
                ..standard
            },
        }
    }
}

/// What a token says, as far as we asked. Nothing of it is checked against the directory.
#[derive(Debug)]
pub(super) struct Person<'v> {
    pub(super) sub: &'v str,
    pub(super) email: &'v str,
    pub(super) name: Option<&'v str>,
    pub(super) username: Option<&'v str>,
    pub(super) avatar: Option<&'v str>,
    pub(super) role: Option<&'v str>,
    pub(super) org: &'v str,
    pub(super) plan: Option<&'v str>,
    pub(super) tokens_per_month: Option<u64>,
    pub(super) librechat_user_id: Option<&'v Value>,
    /// Whether the e-mail address can be relied on.
    pub(super) email_is_good: bool,
}

impl Mapping {
    /// Reads the claims of a token whose signature is good.
    pub(super) fn read<'v>(&'v self, claims: &'v Map<String, Value>) -> Result<Person<'v>, TokenError> {
        let has = |name: &str| claims.contains_key(name);
        // Events are told by tokens of the same issuers (RFC 8417), and a token that is bound to a key is no bearer token
        // (RFC 7800): neither says who is asking.
        if has("events") || has("cnf") || (has("scope") && !self.may_have_scope) {
            return Err(TokenError::BadShape);
        }
        for (path, wanted) in &self.require {
            if !path.find(claims)?.is_some_and(|value| is_written(value, wanted)) {
                return Err(TokenError::BadShape);
            }
        }
        let text = |path: &Option<ClaimPath>| path.as_ref().map_or(Ok(None), |path| path.text(claims));
        let given = |path: &ClaimPath, longest: usize| {
            let text = path.text(claims)?.filter(|text| !text.trim().is_empty() && text.len() <= longest);
            text.filter(|text| !text.contains(char::is_control)).ok_or(TokenError::BadShape)
        };
        Ok(Person {
            sub: given(&self.sub, LONGEST_SUB)?,
            email: given(&self.email, LONGEST_EMAIL)?,
            name: text(&self.name)?,
            username: text(&self.username)?,
            avatar: text(&self.avatar)?,
            role: self.role(claims),
            org: self.org(claims)?,
            plan: text(&self.plan)?,
            tokens_per_month: self.tokens_per_month(claims)?,
            librechat_user_id: self.librechat_user_id.find(claims)?,
            email_is_good: self.email_is_good(claims)?,
        })
    }

    /// Our name of the token's role. A role that is none of ours, or none at all, is no reason to refuse anyone.
    fn role<'v>(&'v self, claims: &'v Map<String, Value>) -> Option<&'v str> {
        let value = self.role.as_ref()?.find(claims).ok()??;
        let Some(ours) = &self.roles else { return value.as_str() };
        let held: Vec<&str> = match value {
            Value::String(role) => vec![role],
            Value::Array(roles) => roles.iter().filter_map(Value::as_str).collect(),
            _ => return None,
        };
        let held: Vec<&str> = held.into_iter().filter_map(|role| ours.get(role)).map(String::as_str).collect();
        // Whoever has several is what lets them do most.
        let [user, admin, super_admin, viewer] = ROLES;
        [super_admin, admin, user, viewer].into_iter().find(|role| held.contains(role))
    }

    fn org<'v>(&'v self, claims: &'v Map<String, Value>) -> Result<&'v str, TokenError> {
        let path = match &self.org {
            // An issuer that does name an org must not be taken for one that knows none.
            OrgFrom::Fixed(_) if claims.contains_key("organization") => return Err(TokenError::BadShape),
            OrgFrom::Fixed(org) => return Ok(org),
            OrgFrom::Claim(path) => path,
        };
        let theirs = match path.find(claims)?.ok_or(TokenError::BadShape)? {
            Value::String(org) => org.as_str(),
            Value::Array(orgs) => match &orgs[..] {
                [Value::String(org)] => org,
                _ => return Err(TokenError::BadShape),
            },
            Value::Object(orgs) => match orgs.iter().next() {
                Some((org, Value::Object(_))) if orgs.len() == 1 => org,
                _ => return Err(TokenError::BadShape),
            },
            _ => return Err(TokenError::BadShape),
        };
        match &self.org_ids {
            Some(ours) => ours.get(theirs).map(String::as_str).ok_or(TokenError::ForeignOrg),
            None => Ok(theirs),
        }
    }

    fn tokens_per_month(&self, claims: &Map<String, Value>) -> Result<Option<u64>, TokenError> {
        let Some(cap) = self.tokens_per_month.as_ref().map_or(Ok(None), |path| path.find(claims))? else { return Ok(None) };
        cap.as_u64().map(|tokens| Some(tokens.min(LARGEST_LIMIT))).ok_or(TokenError::BadShape)
    }

    /// Whether the issuer vouches for the address. Some write `true` as a text or as 1; everything else means no.
    fn email_is_good(&self, claims: &Map<String, Value>) -> Result<bool, TokenError> {
        let said = self.email_verified.as_ref().map_or(Ok(None), |path| path.find(claims))?;
        Ok(said.map_or(!self.requires_verified_email, |said| is_written(said, "true") || is_written(said, "1")))
    }
}

/// Whether a claim is this text, or a number or truth that is written so.
fn is_written(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        Value::Bool(truth) => text == if *truth { "true" } else { "false" },
        Value::Number(number) => number.as_i64().is_some_and(|number| text.parse() == Ok(number)),
        _ => false,
    }
}
