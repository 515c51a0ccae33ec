//! What stands between a client and PostgreSQL, and lets a commit happen without its being heard of: the answer is
//! swallowed, and the connection cut.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The answer to a commit: a message of type C that says so (PostgreSQL's manual, "Message Formats", `CommandComplete`).
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";

/// Passes everything on, but for the answers that it is told to cut.
pub struct CommitsUnheard {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cuts: AtomicBool,
    unheard: AtomicUsize,
}

impl CommitsUnheard {
    pub async fn in_front_of(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    // A connection that cannot be made or goes away is the client's to notice.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                        pass(client, server, &state).await;
                    }
                });
            }
        });
        Self { address, state }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next commit is not heard of.
    pub fn cut_the_next(&self) {
        self.state.cuts.store(true, Ordering::SeqCst);
    }

    /// How many commits were not heard of.
    pub fn unheard(&self) -> usize {
        self.state.unheard.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, server: TcpStream, state: &State) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asks = async { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let answers = async {
        let mut answer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_server.read(&mut answer).await {
            let said = &answer[..length];
            if said.windows(COMMITTED.len()).any(|window| window == COMMITTED) && state.cuts.swap(false, Ordering::SeqCst) {
                state.unheard.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(said).await.is_err() {
                return;
            }
        }
    };
    // Whoever ends first ends both.
    tokio::select! {
        () = asks => {}
        () = answers => {}
    }
}
