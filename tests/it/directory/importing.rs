//! The directory from CSV files, and who appears in it by themselves.

use std::path::PathBuf;
use std::process::Command;

use tollgate::scripted::{Options, ScriptedLibreChat, User};

use crate::support::gateway::{Setup, wait_for};
use crate::support::process::TollgateProcess;

struct Place {
    process: TollgateProcess,
    librechat: ScriptedLibreChat,
}

impl Place {
    async fn new(config: &str) -> Self {
        let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let setup = Setup { records: "sqlite:rows.db".to_owned(), default_org: String::new(), ..Setup::with(config) };
        let setup = Setup { librechat_keys: "trust_email_domains = true".to_owned(), ..setup };
        Self { process: TollgateProcess::start(&setup.text(&librechat, &folder)).await, librechat }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.process.folder().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// What a command says, and its exit status.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).args(["--config", "tollgate.toml"]).current_dir(self.process.folder()).env_clear();
        let output = command.output().expect("the program starts");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), said)
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], status: i32, texts: &[&str]) {
        let (code, said) = self.run(arguments);
        assert_eq!(code, Some(status), "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?} should say {text:?}:\n{said}");
        }
    }

    async fn chats(&self, email: &str) -> u16 {
        let client = tollgate::scripted::client::ChatClient::new(&self.process.url(), &self.librechat.token(email));
        client.start(&tollgate::scripted::client::ChatBody::new("Hello [[tokens=2]]")).await.expect("an answer").status.as_u16()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orgs_are_shown_first_and_then_imported() {
    let place = Place::new("domains = ['acme.test']").await;
    place.file(
        "orgs.csv",
        "id,name,domains,plan,time_zone,join\nblue,Blue,blue.test;blue.example,pro,Asia/Seoul,by_domain\nred,Red,,,,invited\n",
    );
    place.says(&["org", "import", "orgs.csv"], 0, &["+ org blue", "2 orgs new", "Nothing was changed"]);
    assert_eq!(place.chats("bob@blue.test").await, 403, "nobody's yet");
    place.says(&["org", "import", "orgs.csv", "--apply"], 0, &["2 orgs new", "Done"]);
    wait_for("the running gateway to know the org", || async { (place.chats("bob@blue.test").await == 200).then_some(()) }).await;
    place.says(&["org", "import", "orgs.csv", "--apply"], 0, &["0 orgs new, 0 changed, 2 as they are"]);
    place.file("more.csv", "id,plan\nblue,team\n");
    place.says(&["org", "import", "more.csv", "--apply"], 0, &["~ org blue: plan pro -> team", "1 changed"]);
    place.says(
        &["org", "list"],
        0,
        &["acme", "configuration", "blue", "blue.test blue.example", "team", "Asia/Seoul", "directory", "invited"],
    );
    place.file("bad.csv", "id,domains,time_zone\nacme,x.test,\ngreen,acme.test,\n everyone,,\nblack,,Mars/Olympus\n");
    place.says(
        &["org", "import", "bad.csv", "--apply"],
        1,
        &[
            "nothing was changed",
            "line 2: org acme stands in the configuration",
            "line 3: the domain acme.test is org acme's already",
            "line 4",
            "line 5",
            "Mars/Olympus",
        ],
    );
    place.file("odd.csv", "id,colour\nblue,blue\n");
    place.says(&["org", "import", "odd.csv"], 1, &["\"colour\" is no column", "time_zone"]);
    place.says(&["org", "import", "gone.csv"], 1, &["gone.csv cannot be read"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_imported_and_appear_on_first_sight() {
    let place = Place::new("domains = ['acme.test']").await;
    place.file("orgs.csv", "id,domains,join\nred,red.test,invited\n");
    place.says(&["org", "import", "orgs.csv", "--apply"], 0, &["1 orgs new"]);
    let (eve, ada) = (User::new("eve@red.test").id, User::new("ada@acme.test").id);
    wait_for("the org to arrive", || async {
        (place.chats("ada@acme.test").await == 200 && place.run(&["org", "list"]).1.contains("red")).then_some(())
    })
    .await;
    assert_eq!(place.chats("eve@red.test").await, 403, "only the invited may");
    wait_for("those who were seen", || async {
        let (_, theirs) = place.run(&["member", "list", "--org", "acme"]);
        let (_, nobodys) = place.run(&["member", "unclaimed"]);
        (theirs.contains(&ada) && nobodys.contains(&eve) && nobodys.contains("eve@red.test")).then_some(())
    })
    .await;
    place.file("members.csv", &format!("org,librechat_id,email,role\nred,{eve},,admin\nred,,Carol@Red.test,\nacme,,nobody,\n"));
    place.says(&["member", "import", "members.csv", "--apply"], 1, &["line 4: \"nobody\" is no e-mail address", "nothing was changed"]);
    place.file("members.csv", &format!("org,librechat_id,email,role\nred,{eve},,admin\nred,,Carol@Red.test,\n"));
    place.says(
        &["member", "import", "members.csv"],
        0,
        &["org  -> red", "role user -> admin", "+ member carol@red.test of red", "1 members new, 1 changed"],
    );
    place.says(&["member", "import", "members.csv", "--apply"], 0, &["Done"]);
    wait_for("the invited to be let in", || async { (place.chats("eve@red.test").await == 200).then_some(()) }).await;
    place.says(&["member", "unclaimed"], 0, &["Nobody."]);
    place.says(&["member", "role", "viewer", "--org", "red", "--member", &eve], 0, &["viewer now"]);
    place.says(&["member", "role", "king", "--org", "red", "--member", &eve], 64, &["invalid value 'king'"]);
    place.says(&["member", "suspend", "--org", "red", "--member", "dave@red.test"], 1, &["has no member"]);
    place.says(&["audit", "verify"], 0, &["The audit log is what was written"]);
}
