//! What is said when a configuration is wrong: each text is a snapshot beside this file.

use std::path::Path;

use proptest::prelude::*;
use tollgate::config::{Config, DEFAULTS};

use super::{SECRET, keys, read, wrong, wrong_with};

fn says(name: &str, text: &dyn std::fmt::Display) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text.to_string());
    });
}

#[test]
fn no_error_shows_a_secret() {
    for file in [
        "[librechat]\njwt_secret = 'hunter2",
        "[librechat]\njwt_secret = hunter2",
        "[librechat]\njwt_secret = ['hunter2']",
        "[librechat]\njwt_secret = { hunter = 'hunter2' }",
        "[librechat]\njwt_secret = 'hunter2'",
        "[librechat]\nupstreams = ['http://me:hunter2@chat']",
        "[store]\nurl = 'redis://me:hunter2@'",
        "[store]\nurl = 'hunter2'",
        "[records]\nurl = 'postgres://me:hunter2@/'",
        "[[issuers]]\nsecret = 'hunter2'\nalgorithm = 'HS256'",
        "jwt_secret = 'hunter2'",
    ] {
        let errors = wrong_with(file, &[]);
        let debug = format!("{:?}", read(file, &[]).unwrap_err());
        assert!(!errors.contains("hunter2") && !debug.contains("hunter2"), "the errors of {file:?} show a secret: {errors}");
    }
    let errors = wrong_with("[librechat]\njwt_secret = 1234567890123456", &[]);
    assert!(!errors.contains("123"), "{errors}");
}

#[test]
fn a_missing_secret_is_an_error_of_its_own() {
    let errors = read("", &[("JWT_SECRET", "")]).unwrap_err();
    assert_eq!(errors.missing_secrets(), ["librechat.jwt_secret"]);
    says("missing_secret", &tollgate::cli::errors(&errors));
    let errors = read("[librechat]\njwt_secret_file = '/no/such/file'", &[]).unwrap_err();
    assert_eq!(errors.missing_secrets(), [""; 0], "a secret that was given but cannot be read is another error");
    says("unreadable_secret", &errors);
}

#[test]
fn a_file_that_cannot_be_read() {
    let errors = Config::load(Some(Path::new("/no/such/tollgate.toml")), std::iter::empty()).unwrap_err();
    says("unreadable_file", &errors);
}

#[test]
fn wrong_logins() {
    says(
        "logins",
        &wrong(
            "[logins]\nwatch = 1\nfailures = 0\nlock_minutes = 30\nmax_lock_minutes = 15\naddress_failures = 5000\n\
             address_max_wait_seconds = 30\nknown_place_days = 'ever'\non_failure = 'shut'\nlock = 5\n",
        ),
    );
}

#[test]
fn wrong_keys_and_types() {
    says("not_toml", &wrong("[public]\nlisten = \n"));
    says(
        "keys_and_types",
        &wrong(
            r"
public = 5
lisen = 'x'
orgs = 'acme'

[admin]
listen = 'localhost'
port = 3090

[metrics]
listen = 9464

[librechat]
upstreams = ['https://chat', 'chat:3080', 5]
trust_email_domains = 'yes'
agent_api = 'allow'

[store]
timeout_ms = 0
on_failure = true

[estimate]
answer_tokens = 1.5
least_answer_tokens = -1

[log]
level = 'inof'

[shutdown]
grace_seconds = 1979-05-27

[body]
max_chat_bytes = 9223372036854775807

[[limits]]
applies_to = 'team'
tokens_per_day = '5'
usd_per_day = -1.0
messages_per_day = 9_007_199_254_740_992
tokens_per_hour = 5

[[limits]]
applies_to = 'member'
usd_per_day = 0.1234567891
usd_per_month = 1e3

[[issuers]]
name = 'x'
algorithm = 'none'
",
        ),
    );
}

#[test]
fn wrong_environment() {
    says(
        "environment",
        &wrong_with(
            "",
            &[
                ("JWT_SECRET", "short"),
                ("TOLLGATE_PUBLIC__LISTEN", "8080"),
                ("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8,nowhere,10.0.0.0/99"),
                ("TOLLGATE_PUBLIC__LISTNE", "127.0.0.1:8080"),
                ("TOLLGATE_PUBLIK__LISTEN", "127.0.0.1:8080"),
                ("TOLLGATE_ADMIN_LISTEN", "127.0.0.1:8080"),
                ("TOLLGATE_LIMIT", "[]"),
                ("TOLLGATE_METRICS", "{ listen = '127.0.0.1:8080' }"),
                ("TOLLGATE_LIMITS__0__ORG", "acme"),
                ("TOLLGATE_ORGS", "[{ id ="),
                ("TOLLGATE_LIBRECHAT__TRUST_EMAIL_DOMAINS", "yes"),
            ],
        ),
    );
}

#[test]
fn wrong_listeners_and_librechat() {
    says(
        "listeners_and_librechat",
        &wrong(
            r"
[public]
listen = '0.0.0.0:3080'
[admin]
listen = '127.0.0.1:3080'
[metrics]
listen = '[::1]:3080'
[librechat]
upstreams = ['http://localhost:3080']
default_org = 'nobody'
agent_api = 'default_org'
[[orgs]]
id = 'acme'
",
        ),
    );
    let several = "upstreams = ['http://a', 'http://b', 'http://a:80']\ndrained = ['http://a', 'http://b', 'http://c']";
    says("several_upstreams", &wrong(&format!("[librechat]\n{several}\nagent_api = 'default_org'\ndead_after = 0\nhealth_every_ms = 5")));
    says("no_upstream", &wrong("[librechat]\nupstreams = []"));
    says(
        "both_secrets",
        &wrong_with("[librechat]\njwt_secret = 'a-secret-0123456789'\njwt_secret_file = '/run/x'\njwt_refresh_secret = ''", &[]),
    );
}

#[test]
fn wrong_orgs_and_limits() {
    says(
        "orgs_and_limits",
        &wrong(
            r"
[[orgs]]
id = 'acme'
domains = ['acme.test']
[[orgs]]
id = 'acme'
domains = ['ACME.test', 'me@acme.test']
time_zone = 'Asia/Soul'
[[orgs]]
name = 'No id'
language = 'de'
[[orgs]]
id = 'a b'
[[orgs]]
id = 'everyone'
",
        ),
    );
    says(
        "narrowing",
        &wrong(
            r"
[[orgs]]
id = 'acme'
[[orgs]]
id = 'hanbit'
[[limits]]
applies_to = 'member'
[[limits]]
tokens_per_day = 5
[[limits]]
applies_to = 'org'
member = '66f0'
role = 'user'
tokens_per_day = 5
[[limits]]
applies_to = 'everyone'
org = 'acme'
tokens_per_day = 5
[[limits]]
applies_to = 'member'
org = 'acmee'
role = 'root'
plan = ''
tokens_per_day = 5
",
        ),
    );
}

const ISSUERS: &str = r"
[[orgs]]
id = 'acme'
[[issuers]]
name = 'no key'
orgs = ['acme', 'nobody']
issuer = 'tollgate'
algorithm = 'HS256'
[[issuers]]
orgs = []
secret = '0123456789abcdef0123456789abcdef'
[[issuers]]
name = 'librechat'
orgs = ['acme']
algorithm = 'HS256'
secret = 'SECRET'
[[issuers]]
name = 'librechat'
orgs = ['acme']
algorithm = 'HS256'
secret = '0123456789abcdef'
public_key_file = 'key.pem'
[[issuers]]
name = 'first'
orgs = ['acme']
algorithm = 'HS256'
secret = 'the same for both of the two issuers'
[[issuers]]
name = 'second'
orgs = ['acme']
algorithm = 'HS256'
secret = 'the same for both of the two issuers'
[[issuers]]
name = 'short'
orgs = ['acme']
algorithm = 'HS256'
secret = 'thirty-one-bytes-are-too-short'
[[issuers]]
name = 'rsa with a secret'
orgs = ['acme']
algorithm = 'RS256'
secret = '0123456789abcdef'
[[issuers]]
name = 'small'
orgs = ['acme']
algorithm = 'RS256'
public_key_file = 'KEYS/rsa1024.pub.pem'
[[issuers]]
name = 'no pem'
orgs = ['acme']
algorithm = 'RS256'
public_key_file = 'Cargo.toml'
[[issuers]]
name = 'gone'
orgs = ['acme']
algorithm = 'RS256'
public_key_file = '/no/such/key.pem'
";

#[test]
fn wrong_issuers() {
    let errors = wrong(&ISSUERS.replace("SECRET", SECRET).replace("KEYS", &keys()));
    says("issuers", &errors.replace(&keys(), "KEYS"));
}

const PUBLISHED: &str = r"
[[orgs]]
id = 'acme'
[[orgs]]
id = 'globex'
[[issuers]]
name = 'no issuer'
preset = 'keycloak'
orgs = ['acme']
[[issuers]]
name = 'over http'
preset = 'auth0'
orgs = ['acme']
issuer = 'https://a.example/'
audience = 'a'
jwks_url = 'http://a.example/keys'
[[issuers]]
name = 'both'
orgs = ['acme']
issuer = 'https://b.example/'
audience = 'b'
algorithms = ['HS256', 'RS256']
secret = 'the-secret-of-both-0123456789-abcdef'
jwks_url = 'https://b.example/keys'
[[issuers]]
name = 'version 1'
preset = 'entra'
orgs = ['acme']
issuer = 'https://sts.windows.net/72f9/'
audience = 'c'
[[issuers]]
name = 'one org'
org = 'acme'
orgs = ['acme', 'globex']
org_ids = { x = 'nobody' }
issuer = 'https://d.example/'
audience = 'd'
algorithm = 'EdDSA'
jwks_url = 'https://me:hunter2@d.example/keys'
claims = { sub = 'https://d.example/id', email = '', org = 'org' }
roles = { admins = 'root' }
require = { 'a b' = 'c' }
[[issuers]]
name = 'a file and an address'
orgs = ['acme']
issuer = 'https://e.example/'
audience = 'e'
algorithm = 'RS256'
public_key_file = 'key.pem'
jwks_url = 'https://e.example/keys'
";

#[test]
fn wrong_issuers_that_publish_their_keys() {
    says("published_issuers", &wrong(PUBLISHED));
    let issuer =
        |more: &str| wrong(&format!("[[orgs]]\nid = 'acme'\n[[issuers]]\nname = 'a'\norgs = ['acme']\nalgorithm = 'ES256'\n{more}\n"));
    says("published_without_audience", &issuer("issuer = 'https://a.example'\njwks_url = 'https://a.example/keys'"));
    says("published_without_issuer", &issuer("audience = 'a'\njwks_url = 'https://a.example/keys'"));
}

#[test]
fn wrong_stores_and_files() {
    says(
        "stores_and_files",
        &wrong(
            r"
[store]
url = 'rediss://redis'
prefix = '{x}'
[records]
url = 'mysql://db'
batch_rows = 8001
[prices]
file = '/no/such/prices.toml'
[estimate]
answer_tokens = 50
",
        ),
    );
}

#[test]
fn limits_that_contradict_each_other_and_prices_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.toml");
    std::fs::write(&prices, "version = 'x'\n[default]\ninput = -1\noutput = 1\n").unwrap();
    let errors = wrong(&format!(
        r"
[prices]
file = '{}'
[[orgs]]
id = 'acme'
[[limits]]
applies_to = 'member'
org = 'acme'
tokens_per_day = 5
[[limits]]
applies_to = 'member'
tokens_per_day = 5
[[limits]]
applies_to = 'member'
org = 'acme'
tokens_per_day = 6
messages_per_day = 5
",
        prices.display()
    ));
    says("ties_and_prices", &errors.replace(&folder.path().display().to_string(), "FOLDER"));
}

#[test]
fn issuers_that_only_the_verifier_refuses() {
    let issuer = |name: &str, key: &str| format!("[[issuers]]\nname = '{name}'\norgs = ['acme']\n{key}\n");
    let rsa = format!("algorithm = 'RS256'\npublic_key_file = '{}/rsa2048.pub.pem'", keys());
    let same = wrong(&format!("[[orgs]]\nid = 'acme'\n{}{}", issuer("a", &rsa), issuer("b", &rsa)));
    says("same_public_key", &same);
    let pem = "algorithm = 'HS256'\nsecret = '-----BEGIN PUBLIC KEY----- 0123456789'";
    says("public_key_as_secret", &wrong(&format!("[[orgs]]\nid = 'acme'\n{}", issuer("a", pem))));
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let published = "16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef";
    let file = "[limits_defaults]\nmode = 'shadow'\n[[orgs]]\nid = 'a'\ndomains = ['a.test']\n[records]\nurl = 'postgres://db/x'\n\
                [[limits]]\napplies_to = 'member'\nplan = 'gold'\nmessages_per_day = 1";
    let config = read(file, &[("JWT_SECRET", published), ("JWT_REFRESH_SECRET", published)]).unwrap();
    let table = config.prices.shown();
    says("warnings", &tollgate::cli::describe(&config).replace(&table, "THE PRICE TABLE"));
}

#[test]
fn wrong_ways_to_an_org() {
    says(
        "access",
        &wrong(
            r"
[public]
cors_origins = ['https://app.example', 'https://*.example', '*', 5]

[[orgs]]
id = 'acme'
tenant_id = 'acme'
hosts = ['Acme.chat.example']
addresses = ['10.0.0.0/8', '10.1.2.3/16', '10.0.0.300', '2001:db8::1/32']
role_addresses = { admin = ['office'], owner = ['10.0.0.0/8'], viewer = [] }
frame_ancestors = ['https://app.example', 'app.example', 'https://app.example/x; script-src *', 'capacitor://localhost']
cors_origins = ['null', 'https://app.example:99999']

[[orgs]]
id = 'globex'
tenant_id = 'acme'
hosts = ['acme.chat.example', 'https://globex.example', 'globex.example:8080', '']
addresses = []

[[orgs]]
id = 'system'
tenant_id = '__system__'

[[orgs]]
id = 'spaced'
tenant_id = 'a b'
addresses = '10.0.0.0/8'
",
        ),
    );
    let many: String = (0..60).map(|number| format!("'https://a-rather-long-name-of-a-host-{number}.application.example',")).collect();
    says("too_many_ancestors", &wrong(&format!("[[orgs]]\nid = 'acme'\nframe_ancestors = [{many}]")));
    let errors = read(&format!("[[orgs]]\nid = 'acme'\nhosts = ['acme.example']\nframe_ancestors = [{many}]"), &[("JWT_SECRET", SECRET)]);
    assert!(errors.is_ok(), "an org with a host of its own is alone there: {errors:?}");
}

#[test]
fn limits_and_orgs_that_concern_nobody_are_warned_of() {
    let warned = |file: &str| read(file, &[("JWT_SECRET", SECRET)]).unwrap_or_else(|errors| panic!("{errors}")).warnings.join("\n");
    let org = "[[orgs]]\nid = 'acme'\n";
    let issuer = "[[issuers]]\nname = 'd'\norgs = ['acme']\nalgorithm = 'HS256'\nsecret = 'dashboard-secret-0123456789abcdef'\n";
    let role = |role: &str| format!("[[limits]]\napplies_to = 'member'\nrole = '{role}'\nmessages_per_day = 1\n");
    let belongs = "[librechat]\ndefault_org = 'acme'\n";
    let trusts = "[librechat]\ntrust_email_domains = true\n";
    for (file, words) in [
        (org.to_owned(), "Nobody belongs to an org"),
        (format!("{org}domains = ['acme.test']\n"), "so that domains are not used"),
        (format!("{trusts}{org}"), "no org has domains"),
    ] {
        assert!(warned(&file).contains(words), "{words:?} is not said of\n{file}{}", warned(&file));
    }
    for file in [
        format!("{belongs}{org}{}", role("user")),
        // The directory may give it to somebody.
        format!("{belongs}{org}{}", role("admin")),
        format!("{trusts}{org}domains = ['acme.test']\n"),
        format!("{org}{issuer}{}", role("admin")),
    ] {
        assert_eq!(warned(&file), "", "nothing is wrong with\n{file}");
    }
}

#[test]
fn every_setting_refuses_nonsense_by_its_path() {
    let mut section = "";
    let mut settings = 0;
    for line in DEFAULTS.lines().map(|line| line.strip_prefix("# ").unwrap_or(line)) {
        if line.starts_with('[') {
            section = line;
        }
        let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| !key.contains(|c: char| c != '_' && !c.is_ascii_lowercase())) else {
            continue;
        };
        settings += 1;
        let name = section.trim_matches(['[', ']']);
        for nonsense in ["-1", "1.5", "nan", "1979-05-27", "[[]]", "{ a = 1 }", "'\\u0000'", "0x7fff_ffff_ffff_ffff"] {
            let file = format!("{section}\n{key} = {nonsense}\n");
            // A secret in the environment would lie over the nonsense in the file.
            let environment: &[(&str, &str)] = if key.starts_with("jwt_secret") { &[] } else { &[("JWT_SECRET", SECRET)] };
            let Err(errors) = read(&file, environment) else {
                assert!(nonsense.starts_with('\''), "{section} {key} = {nonsense} was accepted");
                continue;
            };
            for error in errors.iter() {
                assert!(error.path.starts_with(name), "{section} {key} = {nonsense} is answered with: {error}");
            }
        }
    }
    assert!(settings > 40, "only {settings} settings were found in the defaults");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_file_and_no_variable_panics(file in "\\PC*", variable in "[A-Z_]{0,20}", value in "\\PC*") {
        let name = format!("TOLLGATE_{variable}");
        let _ = read(&file, &[]);
        let _ = read("", &[(&name, &value), ("TOLLGATE_ORGS", &value), ("TOLLGATE_PUBLIC__LISTEN", &value), ("JWT_SECRET", &value)]);
    }
}
