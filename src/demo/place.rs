//! Where the demo happens: a scripted LibreChat, a gateway with embedded stores in front of it, and a folder of their own.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;
use uuid::Uuid;

use super::people::{self, Person};
use super::ports::{Ports, loopback};
use crate::app::App;
use crate::cli::complain;
use crate::clock::SystemClock;
use crate::config::{Config, ConfigErrors};
use crate::scripted::auth::Claims;
use crate::scripted::directives::Directives;
use crate::scripted::{Agents, Options, ScriptedLibreChat, Strangers};
use crate::serve::{self, Running, StartError};

/// What every model call of the demo is said to have used. With `gpt-4o` it costs $0.004.
pub const INPUT_TOKENS: u64 = 800;
/// The same of the answer.
pub const OUTPUT_TOKENS: u64 = 200;

/// Seconds that the demo's tokens are good for. LibreChat's own live for 15 minutes, which is short for trying things out.
const TOKEN_LIFETIME: i64 = 12 * 3600;

/// How often free ports are tried: between finding one and listening on it, another process may take it.
const ATTEMPTS: usize = 5;

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Threads or signals.
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
    /// The folder.
    #[error("{}: {reason}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// The scripted LibreChat.
    #[error("the scripted LibreChat cannot listen: {0}")]
    LibreChat(io::Error),
    /// Its own configuration; never in a released program, as a test plays it.
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    /// The gateway.
    #[error("{0}")]
    Gateway(#[from] StartError),
}

/// Everything that runs.
#[derive(Debug)]
pub struct Place {
    running: Running,
    librechat: ScriptedLibreChat,
    folder: Folder,
}

impl Place {
    /// Starts everything. The scripted LibreChat runs on `runtime`.
    pub fn open(runtime: &Runtime) -> Result<Self, PlaceError> {
        let folder = Folder::create()?;
        let librechat = runtime.block_on(ScriptedLibreChat::start(how_librechat_is())).map_err(PlaceError::LibreChat)?;
        let mut ports = Ports::choose();
        let mut attempt = 1;
        let running = loop {
            match serve::start(configure(&librechat, &folder, ports)?, Arc::new(SystemClock)) {
                Ok(running) => break running,
                Err(StartError::Listen { .. }) if attempt < ATTEMPTS => ports = Ports::FREE,
                Err(error) => return Err(error.into()),
            }
            attempt += 1;
        };
        Ok(Self { running, librechat, folder })
    }

    /// The gateway's shared handles.
    pub fn app(&self) -> &App {
        &self.running.app
    }

    /// The gateway's addresses.
    pub fn gateway(&self) -> &Running {
        &self.running
    }

    /// The URL that people open.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.public)
    }

    /// The URL of the metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.running.metrics)
    }

    /// The URL of the scripted LibreChat.
    pub fn librechat_url(&self) -> String {
        self.librechat.url()
    }

    /// The configuration it was started with.
    pub fn config_file(&self) -> PathBuf {
        self.folder.config()
    }

    /// The database of usage and audit rows.
    pub fn database(&self) -> PathBuf {
        self.folder.database()
    }

    /// How many chats have reached LibreChat.
    pub fn runs(&self) -> usize {
        self.librechat.runs().len()
    }

    /// An access token as LibreChat gives one, for a person.
    pub fn token(&self, person: Person) -> String {
        self.token_signed_with(person, self.librechat.jwt_secret())
    }

    /// An access token with this person's claims, by whoever has this secret.
    pub fn token_signed_with(&self, person: Person, secret: &str) -> String {
        let mut claims = Claims::of(&person.user(), self.running.app.clock.now());
        claims.exp = claims.iat.saturating_add(TOKEN_LIFETIME);
        // Signing with a shared secret has no way to fail; an empty token would be refused, and the demo would say so.
        claims.sign(secret).unwrap_or_default()
    }

    /// Stops everything and removes the folder. Answers whether every row was written.
    pub fn close(self, runtime: &Runtime) -> bool {
        let written = self.running.stop();
        runtime.block_on(self.librechat.stop());
        written
    }
}

/// A secret that nobody had before: 244 random bits.
pub fn random_secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

fn how_librechat_is() -> Options {
    Options {
        jwt_secret: random_secret(),
        users: people::users(),
        strangers: Strangers::Refused,
        // So that curl needs no browser's name.
        agents: Agents::Any,
        // A line of words, and what a provider would say of a real answer.
        defaults: Directives { tokens: 9, input: Some(INPUT_TOKENS), output: Some(OUTPUT_TOKENS), ..Directives::default() },
        seed: Uuid::new_v4().as_u64_pair().0,
        ..Options::default()
    }
}

/// The configuration, also written into the folder, where it can be read and given to the other commands.
fn configure(librechat: &ScriptedLibreChat, folder: &Folder, ports: Ports) -> Result<Config, PlaceError> {
    let records = toml_edit::Value::from(format!("sqlite:{}", folder.database().display()));
    let text = format!(
        "# Written by `tollgate demo`, and removed when it ends.

[public]
listen = \"{}\"
[admin]
listen = \"{}\"
[metrics]
listen = \"{}\"

[librechat]
upstreams = [\"{}\"]
jwt_secret = \"{}\"
trust_email_domains = true

[store]
url = \"memory:\"
[records]
url = {records}

[shutdown]
grace_seconds = 2

{}",
        loopback(ports.public),
        loopback(ports.admin),
        loopback(ports.metrics),
        librechat.url(),
        librechat.jwt_secret(),
        people::orgs_and_limits(),
    );
    let file = folder.config();
    std::fs::write(&file, &text).map_err(|reason| PlaceError::Folder { path: file.clone(), reason })?;
    let mut config = Config::from_text(&text, &file.display().to_string(), std::iter::empty())?;
    // The table that is part of the program, whatever file of that name lies in the working directory.
    config.prices.file = None;
    Ok(config)
}

/// A folder for this run alone, which nobody else can read; removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, PlaceError> {
        let id = Uuid::new_v4().simple().to_string();
        let path = std::env::temp_dir().join(format!("tollgate-demo-{}", id.get(..12).unwrap_or(&id)));
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(reason) => Err(PlaceError::Folder { path, reason }),
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn config(&self) -> PathBuf {
        self.path().join("tollgate.toml")
    }

    fn database(&self) -> PathBuf {
        self.path().join("tollgate.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            complain(&format_args!("{} could not be removed: {error}", self.0.display()));
        }
    }
}
