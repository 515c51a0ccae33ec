//! Texts that are hard to count: what people send to make a tokenizer slow, wrong or fall over. Shared by the tests and
//! `benches/counting.rs`.

/// A hard text's name and a function that makes one of about so many bytes.
pub type HardText = (&'static str, fn(usize) -> String);

/// All of them.
pub const HARD_TEXTS: &[HardText] = &[
    ("one letter", |bytes| repeat("a", bytes)),
    ("spaces", |bytes| repeat(" ", bytes)),
    ("spaces, then a letter", |bytes| repeat(" ", bytes - 1) + "x"),
    ("tabs", |bytes| repeat("\t", bytes)),
    ("newlines", |bytes| repeat("\n", bytes)),
    ("carriage returns and newlines", |bytes| repeat("\r\n", bytes)),
    ("no-break spaces", |bytes| repeat("\u{a0}", bytes)),
    ("ideographic spaces", |bytes| repeat("\u{3000}", bytes)),
    ("dashes", |bytes| repeat("-", bytes)),
    ("equals signs", |bytes| repeat("=", bytes)),
    ("stars", |bytes| repeat("*", bytes)),
    ("slashes", |bytes| repeat("/", bytes)),
    ("a dash, then newlines and slashes", |bytes| "-".to_owned() + &repeat("\n/", bytes)),
    ("500 dashes and a letter", |bytes| repeat(&("-".repeat(500) + "x"), bytes)),
    ("random letters", |bytes| random(bytes, |x| 'a' as u32 + x % 26)),
    ("random capitals", |bytes| random(bytes, |x| 'A' as u32 + x % 26)),
    ("random mixed case", |bytes| random(bytes, |x| if x % 2 == 0 { 'a' as u32 + x / 2 % 26 } else { 'A' as u32 + x / 2 % 26 })),
    ("random words of 20 letters", |bytes| random(bytes, |x| if x % 20 == 0 { ' ' as u32 } else { 'a' as u32 + x / 20 % 26 })),
    ("random words of 1,500 letters", |bytes| random(bytes, |x| if x % 1500 == 0 { ' ' as u32 } else { 'a' as u32 + x / 1500 % 26 })),
    ("random punctuation", |bytes| random(bytes, |x| u32::from(b"!#$%&()*+,-./:;<=>?@[]^_`{|}~"[x as usize % 29]))),
    ("random digits", |bytes| random(bytes, |x| '0' as u32 + x % 10)),
    ("base64", |bytes| random(bytes, |x| u32::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[x as usize % 64]))),
    ("one Chinese character", |bytes| repeat("中", bytes)),
    ("random Chinese", |bytes| random(bytes, |x| 0x4e00 + x % 20_000)),
    ("random rare Chinese", |bytes| random(bytes, |x| 0x2_0000 + x % 40_000)),
    ("one Hangul syllable", |bytes| repeat("가", bytes)),
    ("random Hangul", |bytes| random(bytes, |x| 0xac00 + x % 11_172)),
    ("random Thai", |bytes| random(bytes, |x| 0xe01 + x % 46)),
    ("one combining mark", |bytes| repeat("\u{301}", bytes)),
    ("random combining marks", |bytes| random(bytes, |x| 0x300 + x % 112)),
    ("letters with combining marks", |bytes| repeat("e\u{301}", bytes)),
    ("joined emoji", |bytes| repeat("👩\u{200d}👩\u{200d}👧", bytes)),
    ("random emoji", |bytes| random(bytes, |x| 0x1_f300 + x % 800)),
    ("random Unicode", |bytes| random(bytes, |x| x % 0x11_0000)),
    ("special tokens", |bytes| repeat("<|endoftext|><|im_start|>", bytes)),
    ("long words that end in a long s", |bytes| repeat(&(random(1500, |x| 'a' as u32 + x % 26) + "'ſ"), bytes)),
    ("contractions", |bytes| repeat("I'll we'Ve's'LL'd ", bytes)),
];

fn repeat(unit: &str, bytes: usize) -> String {
    unit.repeat(bytes / unit.len())
}

/// `bytes` bytes (the last character may go over) of characters drawn by xorshift; code points that are no character
/// become `x`.
fn random(bytes: usize, code_point: fn(u32) -> u32) -> String {
    let mut text = String::with_capacity(bytes + 4);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let drawn = u32::try_from(state >> 33).unwrap_or_default();
        text.push(char::from_u32(code_point(drawn)).unwrap_or('x'));
    }
    text
}
