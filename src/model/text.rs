//! Bytes that another program chose: names, paths, command lines.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};

/// Text of foreign origin, kept byte for byte. `Display` is the one place where such text becomes
/// harmless for a human reader: control characters (C0, DEL, C1), escape sequences, bidirectional
/// marks, other invisible format characters, newlines and invalid UTF-8 are written as escapes.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Box<[u8]>);

impl Text {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As UTF-8, with U+FFFD where bytes were bad.
    pub fn lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// `Some` when every byte belongs to valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into_boxed_slice())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nearly every name is plain.
        let plain = |byte: &u8| (0x20..0x7f).contains(byte) && *byte != b'\\';
        if self.0.iter().all(plain)
            && let Some(text) = self.as_str()
        {
            return f.write_str(text);
        }
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c != '\\' && harmless(c) {
                    fmt::Write::write_char(f, c)?;
                } else if (c as u32) < 0x100 {
                    write!(f, "\\x{:02x}", c as u32)?;
                } else {
                    write!(f, "\\u{{{:x}}}", c as u32)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A string where the bytes are UTF-8, else `{"hex": "66ff"}`: nothing is lost.
impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(text) = self.as_str() {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("hex", &format_args!("{}", Hex(&self.0)))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;
        impl<'de> Visitor<'de> for Both {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or {\"hex\": \"…\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::from(text))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                let Some((key, hex)) = map.next_entry::<String, String>()? else {
                    return Err(de::Error::missing_field("hex"));
                };
                if key != "hex" {
                    return Err(de::Error::unknown_field(&key, &["hex"]));
                }
                let bytes =
                    unhex(&hex).ok_or_else(|| de::Error::custom("not a string of hex digit pairs"))?;
                if std::str::from_utf8(&bytes).is_ok() {
                    return Err(de::Error::custom("hex of valid UTF-8, which is written as a string"));
                }
                Ok(Text::from(bytes))
            }
        }
        deserializer.deserialize_any(Both)
    }
}

/// Bytes as pairs of lower-case hex digits.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'b>(pub &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.as_bytes().chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

/// `1 socket`, `2 sockets`, `0 processes`.
pub fn counted(count: impl fmt::Display, noun: &str) -> String {
    let count = count.to_string();
    let hissing = ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    let ending = match (count.as_str(), hissing) {
        ("1", _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {noun}{ending}")
}

/// Whether a character can be shown as it is: it neither moves the cursor nor hides or reorders
/// its neighbours (Unicode categories Cc, Cf, Zl, Zp; the fillers, selectors and joiners that
/// show nothing; what is no character at all). Text of ours that quotes foreign text is judged by it once more before it is
/// printed for a human.
pub fn harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c as u32,
            0xad | 0x34f | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x890..=0x891 | 0x8e2
            | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f
            | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff
            | 0xfdd0..=0xfdef | 0xffa0 | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0x110bd | 0x110cd | 0x13430..=0x1343f | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_shown_as_escapes() {
        let cases: &[(&[u8], &str)] = &[
            (b"nginx: worker", "nginx: worker"),
            (b"a\x1b[31mred", r"a\x1b[31mred"),
            (b"two\nlines\ttab\x7f", r"two\x0alines\x09tab\x7f"),
            ("c1\u{9b}2J".as_bytes(), r"c1\x9b2J"),
            ("\u{202e}gpj.exe\u{2066}".as_bytes(), r"\u{202e}gpj.exe\u{2066}"),
            (b"bad\xff\xc3utf8", r"bad\xff\xc3utf8"),
            (br"back\slash", r"back\x5cslash"),
            ("grüße 漢字".as_bytes(), "grüße 漢字"),
            ("zero\u{200b}width\u{feff}".as_bytes(), r"zero\u{200b}width\u{feff}"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(Text::from(*bytes).to_string(), *shown);
        }
    }

    #[test]
    fn serde_keeps_every_byte() {
        for bytes in [&b""[..], b"plain", b"nul\0byte", b"\xff\xfe", "\u{fffd}".as_bytes()] {
            let text = Text::from(bytes);
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text, "{json}");
        }
        for bad in [r#"{"hex":"f"}"#, r#"{"hex":"zz"}"#, r#"{"hex":"41"}"#, r#"{"hax":"ff"}"#, "{}", "3"] {
            assert!(serde_json::from_str::<Text>(bad).is_err(), "{bad}");
        }
    }
}
