//! `upstream`: which LibreChats there are, and draining them.

use tollgate::scripted::{Options, ScriptedLibreChat};

use super::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechats_are_shown_drained_and_taken_back() {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let lives = librechat.addr().to_string();
    let config = format!("upstreams = ['{}', 'http://127.0.0.1:1', 'http://127.0.0.1:2']", librechat.url());
    let place = Place::new(&format!("[librechat]\n{config}\ndrained = ['http://127.0.0.1:2']"));
    place.run(&["upstream", "list"]).expect(1, &["does not exist"]);
    place.run(&["migrate"]).expect(0, &[]);

    place.run(&["upstream", "drain", "127.0.0.1:3"]).expect(1, &["no LibreChat \"127.0.0.1:3\"", &lives, "127.0.0.1:1"]);
    place.run(&["upstream", "drain", "127.0.0.1:2"]).expect(0, &["drained already"]);
    place.run(&["upstream", "undrain", "127.0.0.1:2"]).expect(1, &["librechat.drained"]);
    place.run(&["upstream", "drain", "127.0.0.1:1"]).expect(0, &["takes no new people"]);
    place.run(&["upstream", "drain", &lives]).expect(1, &["the last one"]);
    let listed = place.run(&["upstream", "list"]);
    listed.expect(0, &[]);
    let line = |name: &str| listed.out.lines().map(str::trim_start).find(|line| line.starts_with(name)).expect("its line").to_owned();
    assert!(line(&lives).contains("yes") && !line(&lives).contains("none"), "{}", listed.out);
    assert!(line("127.0.0.1:1 ").contains("none: drained"), "{}", listed.out);
    assert!(line("127.0.0.1:2 ").contains("none: librechat.drained"), "{}", listed.out);
    place.run(&["upstream", "undrain", "127.0.0.1:1"]).expect(0, &["takes people again"]);
    place.run(&["upstream", "undrain", "127.0.0.1:1"]).expect(0, &["is not drained"]);
}
