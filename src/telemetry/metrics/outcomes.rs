//! How things ended, in the words that their labels have.

/// What was decided about a chat start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It fits.
    Admitted,
    /// A limit refused it.
    Refused,
    /// A shadow limit would have refused it.
    ShadowRefused,
    /// It was refused before any limit: its person belongs to no org, or its model has no price.
    Policy,
    /// The store was away, and the limits are open then.
    DegradedAdmitted,
    /// The store was away, and a limit is closed then.
    DegradedRefused,
}

impl Outcome {
    /// The value of the label `decision`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::ShadowRefused => "shadow_refused",
            Self::Policy => "policy",
            Self::DegradedAdmitted => "degraded_admitted",
            Self::DegradedRefused => "degraded_refused",
        }
    }
}

/// What became of a sign-in with LibreChat's own accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The person is signed in.
    SignedIn,
    /// The password was right, and the code is asked for.
    CodeAsked,
    /// The guess was wrong.
    Failed,
    /// LibreChat has not judged it, or did not answer.
    NotJudged,
    /// It was not forwarded: its name or person is locked.
    Locked,
    /// It was not forwarded: its address has to wait.
    Slowed,
    /// It was not forwarded: its person or org is suspended.
    Suspended,
    /// It was not forwarded: it cannot be read.
    Malformed,
    /// It was not forwarded: failures cannot be counted.
    Away,
}

impl LoginOutcome {
    /// Every one.
    pub(super) const ALL: [Self; 9] = [
        Self::SignedIn,
        Self::CodeAsked,
        Self::Failed,
        Self::NotJudged,
        Self::Locked,
        Self::Slowed,
        Self::Suspended,
        Self::Malformed,
        Self::Away,
    ];

    /// The value of the label `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignedIn => "signed_in",
            Self::CodeAsked => "code_asked",
            Self::Failed => "failed",
            Self::NotJudged => "not_judged",
            Self::Locked => "locked",
            Self::Slowed => "slowed",
            Self::Suspended => "suspended",
            Self::Malformed => "malformed",
            Self::Away => "store_away",
        }
    }
}
