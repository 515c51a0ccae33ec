//! Configuration from the operator's side: layers, secrets, examples, and the program around them. What is said when
//! something is wrong is in [`errors`].

mod errors;

use std::fs;
use std::path::Path;

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tollgate::config::{AgentApi, Config, ConfigErrors, DEFAULTS, LogLevel, RecordsUrl, Secret, StoreUrl};
use tollgate::identity::IssuerKeys;
use tollgate::limits::rules::AppliesTo;
use tollgate::limits::{Mode, OnFailure, Resource, Window};

use crate::issuers::signer::Signer;

const SECRET: &str = "a-secret-of-librechat-0123456789";

/// Reads this file with this environment.
fn read(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let environment: Vec<_> = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::from_text(file, "tollgate.toml", environment.into_iter())
}

/// Reads this file where LibreChat's secret is in the environment; it must be good.
#[track_caller]
fn good(file: &str) -> Config {
    good_with(file, &[])
}

#[track_caller]
fn good_with(file: &str, environment: &[(&str, &str)]) -> Config {
    let environment: Vec<_> = [("JWT_SECRET", SECRET)].iter().chain(environment).copied().collect();
    read(file, &environment).unwrap_or_else(|errors| panic!("this configuration should be good:\n{errors}"))
}

/// What is said about this file where LibreChat's secret is in the environment; it must be wrong.
#[track_caller]
fn wrong(file: &str) -> String {
    wrong_with(file, &[("JWT_SECRET", SECRET)])
}

#[track_caller]
fn wrong_with(file: &str, environment: &[(&str, &str)]) -> String {
    read(file, environment).expect_err("this configuration should be wrong").to_string()
}

fn keys() -> String {
    format!("{}/tests/fixtures/keys", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_defaults_are_what_the_issue_names() {
    let config = good("");
    assert_eq!(config.public.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.public.trusted_proxies, ["127.0.0.1/32".parse().unwrap()]);
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:3090");
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.librechat.upstreams[0].to_string(), "http://127.0.0.1:3080");
    assert_eq!(config.librechat.jwt_secret, Secret::new(SECRET));
    assert_eq!(config.librechat.jwt_refresh_secret, None);
    assert!(!config.librechat.trust_email_domains);
    assert_eq!(config.librechat.agent_api, AgentApi::Refuse);
    assert!(
        config.orgs.is_empty() && config.issuers.is_empty() && config.limits.is_empty(),
        "the defaults have no orgs, issuers or limits"
    );
    assert_eq!((config.estimate.answer_tokens, config.estimate.least_answer_tokens), (1000, 100));
    assert_eq!((config.store.url, config.store.on_failure), (StoreUrl::Memory, OnFailure::Closed));
    assert_eq!(config.store.timeout.as_millis(), 100);
    assert_eq!(config.records.url, RecordsUrl::Sqlite("tollgate.db".into()));
    assert_eq!(config.body.max_chat_bytes, 3 * 1024 * 1024);
    assert_eq!(config.generations.lease.as_secs(), 15);
    assert_eq!(config.generations.give_up_after.as_secs(), 25 * 60);
    assert_eq!(config.shutdown.grace.as_secs(), 30);
}

#[test]
fn later_layers_lie_on_top() {
    let file = "[public]\nlisten = '127.0.0.1:1001'\n[librechat]\njwt_secret = 'secret-of-the-file-0123456789'\n[log]\nlevel = 'debug'";
    let config = read(file, &[]).unwrap();
    assert_eq!(config.public.listen.port(), 1001, "the file lies over the defaults");
    assert_eq!(config.public.trusted_proxies.len(), 1, "what the file does not name keeps its default");
    assert_eq!(config.librechat.jwt_secret.expose(), "secret-of-the-file-0123456789");

    let config = good_with(file, &[("JWT_REFRESH_SECRET", "refresh-secret-0123456789")]);
    assert_eq!(config.librechat.jwt_secret.expose(), SECRET, "LibreChat's own name lies over the file");
    assert_eq!(config.librechat.jwt_refresh_secret.unwrap().expose(), "refresh-secret-0123456789");

    let ours = [
        ("TOLLGATE_LIBRECHAT__JWT_SECRET", "1234567890123456"),
        ("TOLLGATE_PUBLIC__LISTEN", "[::1]:1002"),
        ("TOLLGATE_LOG__LEVEL", "warn"),
    ];
    let config = good_with(file, &ours);
    assert_eq!(config.librechat.jwt_secret.expose(), "1234567890123456", "our own name lies over LibreChat's, and digits stay text");
    assert_eq!(config.public.listen.to_string(), "[::1]:1002");
    assert_eq!(config.log.level, LogLevel::Warn);
}

#[test]
fn the_environment_speaks_every_type() {
    let config = good_with(
        "[[orgs]]\nid = 'acme'",
        &[
            ("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8, fd00::1"),
            ("TOLLGATE_LIBRECHAT__UPSTREAMS", "[\"http://chat:80\"]"),
            ("TOLLGATE_LIBRECHAT__TRUST_EMAIL_DOMAINS", "true"),
            ("TOLLGATE_LIBRECHAT__DEFAULT_ORG", "acme"),
            ("TOLLGATE_ESTIMATE__ANSWER_TOKENS", "2_000"),
            ("TOLLGATE_LIMITS", "[{ applies_to = 'member', usd_per_day = 0.10 }]"),
            ("TOLLGATE_LIMITS_DEFAULTS__MODE", "shadow"),
        ],
    );
    assert_eq!(config.public.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "fd00::1/128".parse().unwrap()]);
    assert_eq!(config.librechat.upstreams[0].authority(), "chat:80");
    assert!(config.librechat.trust_email_domains);
    assert_eq!(config.librechat.default_org.as_deref(), Some("acme"));
    assert_eq!(config.estimate.answer_tokens, 2000);
    assert_eq!(config.limits[0].amounts, [(Resource::Cost, Window::Day, 100_000_000)]);
    assert_eq!(config.limits[0].mode, Mode::Shadow);
}

#[test]
fn variables_that_are_no_settings_are_left_alone() {
    let config = good_with(
        "",
        &[
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8080"),
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
            ("TOLLGATE_PUBLIC__LISTEN", ""),
            ("OTHER__KEY", "1"),
        ],
    );
    assert_eq!(config.public.listen.port(), 8080, "a variable without a value counts as not set");
}

#[test]
fn lists_replace() {
    let config = good("[public]\ntrusted_proxies = ['192.168.0.0/16']");
    assert_eq!(config.public.trusted_proxies, ["192.168.0.0/16".parse().unwrap()]);
    let config = good("[public]\ntrusted_proxies = []");
    assert!(config.public.trusted_proxies.is_empty(), "an empty list replaces too");
    let file = "[[orgs]]\nid = 'acme'\n[[orgs]]\nid = 'hanbit'";
    let config = good_with(file, &[("TOLLGATE_ORGS", "[{ id = 'other' }]")]);
    assert_eq!(config.orgs.iter().map(|org| &*org.id).collect::<Vec<_>>(), ["other"]);
}

#[test]
fn secrets_come_from_files() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    let file = format!("[librechat]\njwt_secret_file = '{}'", path.display());
    for (written, secret) in [
        ("0123456789abcdef\n", "0123456789abcdef"),
        ("0123456789abcdef\r\n", "0123456789abcdef"),
        ("0123456789abcdef\n\n", "0123456789abcdef\n"),
        (" 0123456789abcdef ", " 0123456789abcdef "),
    ] {
        fs::write(&path, written).unwrap();
        assert_eq!(read(&file, &[]).unwrap().librechat.jwt_secret.expose(), secret, "from a file of {written:?}");
    }
    assert_eq!(good(&file).librechat.jwt_secret.expose(), SECRET, "a secret of a higher layer replaces the file of a lower one");
    let path = path.display().to_string();
    let config = good_with("", &[("TOLLGATE_LIBRECHAT__JWT_SECRET_FILE", &path)]);
    assert_eq!(config.librechat.jwt_secret.expose(), " 0123456789abcdef ", "and a file of a higher layer the secret of a lower one");

    fs::write(folder.path().join("url"), "redis://:hunter2@redis/1\n").unwrap();
    let config = good(&format!("[store]\nurl_file = '{}'", folder.path().join("url").display()));
    assert_eq!(config.store.url, StoreUrl::Redis(Secret::new("redis://:hunter2@redis/1")), "the built-in url gives way to a file");
}

#[test]
fn money_is_exact() {
    let config =
        good("[[limits]]\napplies_to = 'everyone'\nusd_per_day = 4_503_599.627370497\nusd_per_month = 9007199\ntokens_per_day = 0");
    let limit = &config.limits[0];
    assert_eq!(limit.applies_to, AppliesTo::Everyone);
    assert_eq!(limit.name(), "limits[0]");
    assert_eq!(limit.amount(Resource::Tokens, Window::Day), Some(0));
    assert_eq!(limit.amount(Resource::Messages, Window::Day), None);
    assert_eq!(
        limit.amounts,
        [
            (Resource::Tokens, Window::Day, 0),
            (Resource::Cost, Window::Day, 4_503_599_627_370_497),
            (Resource::Cost, Window::Month, 9_007_199_000_000_000),
        ]
    );
}

#[test]
fn defaults_of_limits() {
    let limits = "[[limits]]\napplies_to = 'member'\nmessages_per_day = 1\n[[limits]]\napplies_to = 'org'\nmessages_per_day = 1\nmode = 'enforce'\non_failure = 'open'";
    let modes = |file: &str| good(file).limits.iter().map(|limit| (limit.mode, limit.on_failure)).collect::<Vec<_>>();
    assert_eq!(modes(limits), [(Mode::Enforce, OnFailure::Closed), (Mode::Enforce, OnFailure::Open)]);
    let shadow = format!("{limits}\n[limits_defaults]\nmode = 'shadow'\n[store]\non_failure = 'open'");
    assert_eq!(modes(&shadow), [(Mode::Shadow, OnFailure::Open), (Mode::Shadow, OnFailure::Open)], "shadow is one switch for all");
}

#[test]
fn orgs_are_ready_for_the_directory() {
    let config = good("[[orgs]]\nid = 'acme'\ndomains = ['ACME.test', 'acme.test']\ntime_zone = 'Asia/Seoul'\n[[orgs]]\nid = 'b'");
    assert_eq!(config.orgs[0].domains, ["acme.test"]);
    assert_eq!(config.orgs[0].zone.iana_name(), Some("Asia/Seoul"));
    assert_eq!((&*config.orgs[1].name, &config.orgs[1].zone), ("b", &TimeZone::UTC));
}

#[test]
fn issuers_have_keys() {
    let file = format!(
        "[[orgs]]\nid = 'acme'\n[[issuers]]\nname = 'a'\norgs = ['acme']\nalgorithm = 'RS256'\npublic_key_file = '{}/rsa2048.pub.pem'\n\
         [[issuers]]\nname = 'b'\norgs = ['acme']\nalgorithm = 'HS256'\nsecret = 'an-issuers-own-secret-0123456789'",
        keys()
    );
    let config = good(&file);
    assert!(matches!(&config.issuers[0].keys, IssuerKeys::Pem(_, pems) if pems[0].starts_with("-----BEGIN PUBLIC KEY-----")));
    assert!(matches!(&config.issuers[1].keys, IssuerKeys::Secrets(secrets) if secrets == &[b"an-issuers-own-secret-0123456789"]));
    assert_eq!(config.issuers[1].issuer, None);
}

#[test]
fn two_keys_can_be_good_at_once_of_any_algorithm() {
    let folder = TempDir::new().unwrap();
    for algorithm in ["ES256", "EdDSA"] {
        fs::write(folder.path().join(algorithm), Signer::new(algorithm, "k").pem()).unwrap();
    }
    let here = folder.path().display();
    let config = good(&format!(
        "[[orgs]]\nid = 'acme'\n[[issuers]]\nname = 'a'\norgs = ['acme']\nalgorithms = ['ES256', 'EdDSA']\npublic_key_file = '{here}/ES256'\n\
         second_public_key_file = '{here}/EdDSA'\n[[issuers]]\nname = 'b'\norgs = ['acme']\nalgorithm = 'HS256'\n\
         secret = 'an-issuers-own-secret-0123456789'\nsecond_secret = 'an-issuers-new-secret-0123456789'"
    ));
    assert!(matches!(&config.issuers[0].keys, IssuerKeys::Pem(_, pems) if pems.len() == 2));
    assert!(matches!(&config.issuers[1].keys, IssuerKeys::Secrets(secrets) if secrets[1] == b"an-issuers-new-secret-0123456789"));
}

#[test]
fn every_example_is_good() {
    let secrets = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(secrets.path().join(name), text).unwrap();
    write("jwt_secret", SECRET);
    write("jwt_refresh_secret", "refresh-secret-0123456789\n");
    write("dashboard_secret", "dashboard-secret-0123456789abcdef\n");
    write("redis_url", "redis://:password@redis:6379/0\n");
    write("records_url", "postgres://tollgate:password@postgres/tollgate\n");
    fs::copy(format!("{}/rsa2048.pub.pem", keys()), secrets.path().join("partner.pem")).unwrap();

    let mut examples = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap().replace("/run/secrets", &secrets.path().display().to_string());
        let environment: &[(&str, &str)] = if text.contains("jwt_secret_file") { &[] } else { &[("JWT_SECRET", SECRET)] };
        let config = read(&text, environment).unwrap_or_else(|errors| panic!("{} is wrong:\n{errors}", path.display()));
        assert!(!config.orgs.is_empty() && !config.limits.is_empty(), "{} shows orgs and limits", path.display());
        let warnings: Vec<_> = config.warnings.iter().filter(|warning| !warning.contains("limits_defaults.mode is shadow")).collect();
        assert!(warnings.is_empty(), "{} shows what is probably not meant: {warnings:?}", path.display());
        examples += 1;
    }
    assert!(examples >= 4, "only {examples} examples were found");
}

#[test]
fn nothing_shows_a_secret() {
    let file = "[librechat]\njwt_refresh_secret = 'hunter2-0123456789'\n[store]\nurl = 'redis://me:hunter2@redis'\n\
                [records]\nurl = 'postgres://me:hunter2@db/x'\n[[orgs]]\nid = 'a'\n\
                [[issuers]]\nname = 'd'\norgs = ['a']\nalgorithm = 'HS256'\nsecret = 'hunter2-9876543210-9876543210-9876543210'";
    let config = read(file, &[("JWT_SECRET", "hunter2-abcdefghij")]).unwrap();
    for shown in
        [format!("{config:?}"), format!("{config:#?}"), tollgate::cli::describe(&config), format!("{}", config.librechat.jwt_secret)]
    {
        assert!(!shown.contains("hunter2"), "a secret is shown: {shown}");
    }
    assert!(format!("{config:?}").contains("jwt_secret: ***"));
}

#[test]
fn a_file_of_defaults_is_a_file_too() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("copy.toml");
    fs::write(&path, DEFAULTS).unwrap();
    let environment = std::iter::once(("JWT_SECRET".to_owned(), SECRET.to_owned()));
    let config = Config::load(Some(&path), environment).expect("a copy of the defaults is good");
    assert_eq!(format!("{config:?}"), format!("{:?}", good("")), "and changes nothing");
}

#[test]
fn short_secrets_can_be_insisted_on() {
    let config = read("[insecure]\nshort_secrets = true", &[("JWT_SECRET", "short")]).expect("the switch accepts a short secret");
    assert!(config.warnings.iter().any(|warning| warning.contains("short_secrets")), "but it is warned of: {:?}", config.warnings);
}

/// Runs the program with this environment alone; its status, and what it said.
fn tollgate(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("the program speaks UTF-8"))
}

#[test]
fn the_program_says_by_its_status_how_it_ended() {
    let (status, said) = tollgate(&["check"], &[("JWT_SECRET", SECRET)]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("The configuration is good."), "{said}");

    for command in ["serve", "check"] {
        let (status, said) = tollgate(&[command], &[]);
        assert_eq!(status, Some(64), "{command} without a secret: {said}");
        for way in ["jwt_secret", "jwt_secret_file", "JWT_SECRET", "TOLLGATE_LIBRECHAT__JWT_SECRET"] {
            assert!(said.contains(way), "{command} does not name {way}: {said}");
        }
    }
    let (status, said) = tollgate(&["check", "--config", "/no/such/file"], &[("JWT_SECRET", SECRET)]);
    assert_eq!(status, Some(64), "{said}");
    let (status, said) = tollgate(&["check", "--as", "66f0"], &[]);
    assert_eq!(status, Some(64), "--as is only for --live: {said}");
    let (status, said) = tollgate(&["--help"], &[]);
    assert_eq!(status, Some(0), "{said}");
}
