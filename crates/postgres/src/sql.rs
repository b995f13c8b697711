//! Writing names and texts into statements.

/// Returns `name` as a quoted identifier, always quoted so that no list of keywords is needed.
#[must_use]
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns `text` as a string literal that reads the same whatever `standard_conforming_strings` is.
#[must_use]
pub fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Reads one identifier, quoted or not, at the start of `text`; returns its bytes unquoted, and what follows it.
///
/// An unquoted one ends before the first byte that cannot be part of it; nothing is folded to lower case, since pg_dump
/// quotes whatever would fold.
#[must_use]
pub fn take_identifier(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match text.first()? {
        b'"' => take_quoted(&text[1..]),
        _ => {
            let end = text.iter().position(|b| !is_word(*b)).unwrap_or(text.len());
            (end > 0).then(|| (text[..end].to_vec(), &text[end..]))
        }
    }
}

fn take_quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut name = Vec::new();
    let mut at = 0;
    loop {
        match (text.get(at)?, text.get(at + 1)) {
            (b'"', Some(b'"')) => {
                name.push(b'"');
                at += 2;
            }
            (b'"', _) => return Some((name, &text[at + 1..])),
            (byte, _) => {
                name.push(*byte);
                at += 1;
            }
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_and_backslashes_stay_inside_their_literal() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\' or 1"), r"E'a\\'' or 1'");
        assert_eq!(identifier(r#"a"b"#), r#""a""b""#);
    }

    #[test]
    fn identifiers_end_where_postgres_ends_them() {
        assert_eq!(take_identifier(b"public.t (a)"), Some((b"public".to_vec(), &b".t (a)"[..])));
        assert_eq!(take_identifier(b"\"a\"\"b.c\".t"), Some((b"a\"b.c".to_vec(), &b".t"[..])));
        assert_eq!(take_identifier(b"\"open"), None);
        assert_eq!(take_identifier(b""), None);
    }

    proptest! {
        #[test]
        fn any_name_is_read_back_from_its_quotes(name in "[^\0]{0,40}", rest in "[^\"]{0,5}") {
            let text = identifier(&name) + &rest;
            let (back, left) = take_identifier(text.as_bytes()).expect("a quoted identifier");
            prop_assert_eq!(back, name.as_bytes());
            prop_assert_eq!(left, rest.as_bytes());
        }
    }
}
