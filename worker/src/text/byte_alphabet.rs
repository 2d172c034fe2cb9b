//! The byte-level alphabet of GPT-2 vocabularies: one printable character for each byte.
//!
//! Printable bytes of Latin-1 stand for themselves. The other bytes, in order, are the characters from U+0100 on (`Ġ` is the
//! space). Source: `bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.

/// Bytes that U+0100 and the following characters stand for.
const REMAPPED: [u8; 68] = {
    let mut bytes = [0; 68];
    let (mut byte, mut count) = (0u8, 0);
    while count < bytes.len() {
        if !stands_for_itself(byte) {
            bytes[count] = byte;
            count += 1;
        }
        byte = byte.wrapping_add(1);
    }
    bytes
};

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Byte that a character of the alphabet stands for; `None` for any other character.
pub(super) fn byte_of(character: char) -> Option<u8> {
    match u8::try_from(character) {
        Ok(byte) => stands_for_itself(byte).then_some(byte),
        Err(_) => REMAPPED.get(character as usize - 0x100).copied(),
    }
}

/// Bytes of a token. A token with a character outside the alphabet is plain UTF-8 text.
pub(super) fn bytes_of(token: &str) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn every_byte_has_a_character() {
        let bytes: BTreeSet<u8> = ByteLevel::alphabet().into_iter().filter_map(byte_of).collect();
        assert_eq!(bytes.len(), 256);
    }

    #[test]
    fn token_text_is_decoded_to_bytes() {
        assert_eq!(bytes_of("Ġqueen"), b" queen");
        assert_eq!(bytes_of("Ċ"), b"\n");
        assert_eq!(bytes_of("ĠðŁĲĿ"), " 🐝".as_bytes());
        assert_eq!(bytes_of("ðŁ"), b"\xF0\x9F");
        assert_eq!(bytes_of("two words 蜂"), "two words 蜂".as_bytes(), "not of the alphabet");
    }
}
