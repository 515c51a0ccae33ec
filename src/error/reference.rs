//! The short reference a person reads out to an operator.

use uuid::Uuid;

/// Crockford's base32: no I, L, O or U, so that nothing is mistaken for something else when read aloud or typed.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Ten characters of five bits: any two of a million references are the same with a chance of about 1 in 2,000.
const LENGTH: usize = 10;

/// The reference of this request: its id's last 50 bits, which are random in a `UUIDv7`.
pub fn reference(id: &Uuid) -> String {
    let bits = id.as_u128();
    (0..LENGTH).rev().map(|place| char::from(ALPHABET[((bits >> (5 * place)) & 31) as usize])).collect()
}

/// What a person typed, as [`reference()`] writes it: lower case, hyphens and spaces are forgiven, O is 0, I and L are 1.
/// `None` where it cannot be a reference.
pub fn read_reference(typed: &str) -> Option<String> {
    let read: String = typed
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != '-')
        .map(|letter| match letter.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let known = read.bytes().all(|byte| ALPHABET.contains(&byte));
    (known && read.len() == LENGTH).then_some(read)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reference_reads_back_as_it_may_be_typed() {
        assert_eq!(read_reference(" 0o1i-L9zzzz\n"), Some("001119ZZZZ".to_owned()));
        assert_eq!(read_reference("0123456789A"), None, "too long");
        assert_eq!(read_reference("012345678U"), None, "U is not in the alphabet");
        assert_eq!(read_reference(""), None);
    }

    proptest! {
        #[test]
        fn every_reference_is_ten_known_characters_and_reads_back(bits: u128) {
            let made = reference(&Uuid::from_u128(bits));
            prop_assert_eq!(made.len(), LENGTH);
            prop_assert_eq!(read_reference(&made.to_lowercase()), Some(made));
        }

        #[test]
        fn ids_that_differ_in_their_last_bits_have_different_references(bits: u128, other in 1_u64..(1 << 50)) {
            let changed = bits ^ u128::from(other);
            prop_assert_ne!(reference(&Uuid::from_u128(bits)), reference(&Uuid::from_u128(changed)));
        }
    }
}
