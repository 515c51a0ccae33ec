//! Compression as LibreChat's middleware does it.

use std::io::{self, Write};

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The encodings LibreChat answers in, the one it likes best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `br`
    Brotli,
    /// `gzip`
    Gzip,
}

impl Encoding {
    /// The best one that the client accepts.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let names = accepted.flat_map(|value| value.split(',')).filter_map(offered).collect::<Vec<_>>();
        [Self::Brotli, Self::Gzip].into_iter().find(|encoding| names.contains(&encoding.name()))
    }

    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// `bytes`, compressed.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Brotli => {
                let mut writer = brotli::CompressorWriter::new(Vec::new(), 4096, 4, 20);
                writer.write_all(bytes)?;
                writer.flush()?;
                Ok(writer.into_inner())
            }
            Self::Gzip => {
                let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
                writer.write_all(bytes)?;
                writer.finish()
            }
        }
    }
}

/// The name of one offer, unless its weight is zero.
fn offered(offer: &str) -> Option<&str> {
    let (name, weight) = offer.split_once(';').unwrap_or((offer, ""));
    let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| weight.trim().parse() == Ok(0.0));
    (!refused).then_some(name.trim())
}
