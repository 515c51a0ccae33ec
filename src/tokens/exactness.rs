//! Tests that counts are exact: equal to tiktoken's on generated text, to bpe-openai's on hard text (tiktoken panics on
//! some of that).

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tiktoken_rs::CoreBPE;

use super::hard_texts::HARD_TEXTS;
use super::{Encoding, TokenCounter};

const ENCODINGS: [Encoding; 2] = [Encoding::O200kBase, Encoding::Cl100kBase];

/// tiktoken, the reference.
struct Oracle {
    o200k_base: CoreBPE,
    cl100k_base: CoreBPE,
}

impl Oracle {
    fn load() -> Self {
        Self { o200k_base: tiktoken_rs::o200k_base().unwrap(), cl100k_base: tiktoken_rs::cl100k_base().unwrap() }
    }

    fn count(&self, encoding: Encoding, text: &str) -> u64 {
        let bpe = match encoding {
            Encoding::O200kBase => &self.o200k_base,
            Encoding::Cl100kBase => &self.cl100k_base,
        };
        bpe.encode_ordinary(text).len() as u64
    }
}

fn assert_equal_to_tiktoken(cases: u32, texts: &impl Strategy<Value = String>) {
    let counter = TokenCounter::load().unwrap();
    let oracle = Oracle::load();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let law = runner.run(texts, |text| {
        for encoding in ENCODINGS {
            prop_assert_eq!(counter.count(encoding, &text), oracle.count(encoding, &text), "{:?} of {:?}", encoding, text);
        }
        Ok(())
    });
    if let Err(broken) = law {
        panic!("{broken}");
    }
}

/// Pieces of text at which tokenizers differ.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z]{1,12}",
        2 => "\\PC{1,8}",
        2 => any::<char>().prop_map(String::from),
        2 => "[ \t\r\n]{1,4}",
        1 => "[\u{a0}\u{85}\u{2003}\u{3000}\u{b}\u{c}\u{1c}\u{2028}\u{feff}]{1,3}",
        2 => "['’](s|S|t|re|RE|Ve|m|ll|lL|d|ſ|x)",
        1 => "[0-9]{1,7}",
        1 => "[٠-٩½²Ⅷ〇]{1,4}",
        2 => "[!-/:-@\\[-`{-~]{1,6}",
        1 => "[/\r\n]{1,5}",
        1 => "[가-힣]{1,8}",
        1 => "[一-龥ぁ-んァ-ヶ々、。！]{1,8}",
        1 => "[a-zǅǈᾈÀ-ÿĀ-žΑ-ωА-яأ-ي\u{300}-\u{36f}]{1,8}",
        1 => "[😀-🙏👩\u{200d}\u{fe0f}🏽🇰🇷]{1,5}",
        1 => prop::sample::select(vec!["<|endoftext|>", "<|im_start|>", "<|fim_prefix|>", "<|endofprompt|>", "<|reserved_200013|>", "<|", "|>"])
            .prop_map(str::to_owned),
    ]
}

#[test]
fn counts_equal_tiktokens_on_any_text() {
    assert_equal_to_tiktoken(4_000, &prop::collection::vec(fragment(), 0..24).prop_map(|fragments| fragments.concat()));
    assert_equal_to_tiktoken(1_000, &any::<String>());
}

/// The long s is the only letter outside ASCII that ends a contraction; random text seldom holds it where that matters.
#[test]
fn counts_equal_tiktokens_around_the_long_s() {
    let pieces = prop::sample::select(vec!["ſ", "'ſ", "'", "s", "S", "'s", "e", "V", "ǅ", "一", " ", "\n", "1", "!", "\u{301}"]);
    assert_equal_to_tiktoken(2_000, &prop::collection::vec(pieces, 1..16).prop_map(|pieces| pieces.concat()));
}

/// Every character between letters of either case, so that none is taken for a letter, mark, digit or space that it is not.
#[test]
fn every_character_is_what_tiktoken_takes_it_for() {
    let counter = TokenCounter::load().unwrap();
    let oracle = Oracle::load();
    let characters: Vec<char> = (char::MIN..=char::MAX).collect();
    for some in characters.chunks(64) {
        let text: String = some.iter().flat_map(|character| ['a', *character, 'B', *character, *character, ' ']).collect();
        for encoding in ENCODINGS {
            assert_eq!(counter.count(encoding, &text), oracle.count(encoding, &text), "{encoding:?} of U+{:04X} and after", some[0] as u32);
        }
    }
}

/// Long runs, unbroken or broken once in a while, of few different units, so that they are counted in windows.
#[test]
fn counts_equal_tiktokens_on_long_runs() {
    let units = prop_oneof![
        prop::collection::vec("[a-z]{1,6}", 1..5),
        prop::collection::vec("[A-Za-zéß]{1,3}", 1..5),
        prop::collection::vec("[-=*/._#~!]{1,4}", 1..4),
        prop::collection::vec("[-=/\r\n]{1,3}", 1..4),
        prop::collection::vec("[ \t\u{a0}\u{3000}]{1,3}", 1..3),
        prop::collection::vec("[ \r\n]{1,3}", 1..3),
        prop::collection::vec("[가-힣]{1,3}", 1..6),
        prop::collection::vec("[一-龥]{1,3}", 1..6),
        prop::collection::vec("[\u{300}-\u{36f}a]{1,3}", 1..4),
        prop::collection::vec("[😀-🙏\u{200d}\u{fe0f}]{1,3}", 1..4),
        prop::collection::vec(fragment(), 1..4),
    ];
    let runs = (units, prop::collection::vec(any::<prop::sample::Index>(), 1..60), 2_000_usize..9_000, fragment(), fragment());
    let texts = runs.prop_map(|(units, order, bytes, before, after)| {
        let mut text = before;
        for index in order.iter().cycle() {
            text.push_str(&units[index.index(units.len())]);
            if text.len() > bytes {
                break;
            }
        }
        text + &after
    });
    assert_equal_to_tiktoken(500, &texts);
}

#[test]
fn counts_equal_bpe_openais_on_hard_texts() {
    let counter = TokenCounter::load().unwrap();
    for (name, make) in HARD_TEXTS {
        let text = make(60_000);
        assert_eq!(counter.count(Encoding::O200kBase, &text), bpe_openai::o200k_base().count(text.as_str()) as u64, "o200k_base of {name}");
        assert_eq!(
            counter.count(Encoding::Cl100kBase, &text),
            bpe_openai::cl100k_base().count(text.as_str()) as u64,
            "cl100k_base of {name}"
        );
    }
}

#[test]
fn a_megabyte_of_hard_text_is_counted() {
    let counter = TokenCounter::load().unwrap();
    for (name, make) in HARD_TEXTS {
        let text = make(1_000_000);
        for encoding in ENCODINGS {
            let tokens = counter.count(encoding, &text);
            assert!(tokens > 0 && tokens <= text.len() as u64, "{encoding:?} of {name}: {tokens} tokens");
        }
    }
}
