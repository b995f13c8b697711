//! Making roles that a snapshot needs and the target lacks, from what pg_dumpall said of them.

use std::collections::BTreeSet;

use super::{
    TargetError, maintenance,
    needs::{Word, words},
};
use crate::{connect::ConnectOptions, refusal::Refusal};

/// Makes these roles as `globals` (the output of `pg_dumpall --globals-only`) has them: attributes, passwords, settings, and
/// memberships in each other and in roles that are there. Nothing else of it is executed. Returns what could not be given.
///
/// # Errors
/// [`TargetError`] if a role cannot be made; those made before it stay.
pub async fn create_roles(
    target: &ConnectOptions,
    globals: &[u8],
    roles: &BTreeSet<String>,
) -> Result<Vec<String>, TargetError> {
    let session = maintenance(target, &[]).await?;
    let mut left = Vec::new();
    for statement in statements(globals) {
        let Some(of) = subject(statement).filter(|of| roles.contains(&of.role)) else { continue };
        let Ok(sql) = std::str::from_utf8(statement) else { continue };
        match session.batch_execute(sql).await {
            Ok(()) => {}
            Err(error) if of.makes => return Err(TargetError::refused("make a role")(error)),
            // Its text may hold a password.
            Err(error) => {
                let why = Refusal::quiet(&error);
                left.push(format!("{} of role {}: {why}", of.what, of.role));
            }
        }
    }
    Ok(left)
}

/// Whom a statement is about.
#[derive(Debug, PartialEq, Eq)]
struct Subject {
    role: String,
    what: &'static str,
    makes: bool,
}

fn subject(statement: &[u8]) -> Option<Subject> {
    let words = words(statement);
    let name = |at: usize| {
        let name = words.get(at)?.role()?;
        String::from_utf8(name.to_vec()).ok()
    };
    let is =
        |keywords: &[&str]| keywords.iter().zip(&words).all(|(keyword, word)| word.is(keyword));
    let of = |at, what, makes| Some(Subject { role: name(at)?, what, makes });
    if is(&["create", "role"]) {
        return of(2, "existence", true);
    }
    if is(&["alter", "role"]) {
        return of(2, "attributes or settings", false);
    }
    if is(&["comment", "on", "role"]) {
        return of(3, "comment", false);
    }
    let to = words.iter().position(|word| word.is("to")).filter(|_| is(&["grant"]))?;
    // Rights on tablespaces and parameters are granted ON something.
    let is_membership =
        !words[..to].iter().any(|word| matches!(word, Word::Bare(_)) && word.is("on"));
    if is_membership { of(to + 1, "membership", false) } else { None }
}

/// Cuts a script at the semicolons that end its statements. Comment lines and psql's own commands are left out.
fn statements(script: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = script;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return None;
            }
            if !(rest.starts_with(b"--") || rest.starts_with(b"\\")) {
                break;
            }
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            rest = &rest[end..];
        }
        let mut quote = None;
        let end = rest.iter().position(|byte| {
            match (quote, byte) {
                (None, b'\'' | b'"') => quote = Some(*byte),
                (Some(open), byte) if open == *byte => quote = None,
                (None, b';') => return true,
                _ => {}
            }
            false
        });
        let (statement, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind.get(1..).unwrap_or_default();
        Some(statement)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBALS: &[u8] = b"--\n-- Roles\n--\n\\restrict x\nSET client_encoding = 'UTF8';\n\
        CREATE ROLE clerk;\nALTER ROLE clerk WITH LOGIN PASSWORD 'a;''b';\nCREATE ROLE \"Odd; One\";\n\
        ALTER ROLE clerk SET search_path TO 'x', 'y';\nCOMMENT ON ROLE clerk IS 'two\nlines;';\n\
        GRANT clerk TO \"Odd; One\" WITH INHERIT TRUE GRANTED BY postgres;\nGRANT SET ON PARAMETER work_mem TO clerk;\n\
        CREATE TABLESPACE t OWNER clerk LOCATION '/x';\n\\unrestrict x\n";

    #[test]
    fn a_script_is_cut_at_its_statements() {
        let cut: Vec<_> = statements(GLOBALS).map(String::from_utf8_lossy).collect();
        assert_eq!(cut.len(), 9, "{cut:#?}");
        assert_eq!(cut[2], "ALTER ROLE clerk WITH LOGIN PASSWORD 'a;''b'");
        assert_eq!(cut[5], "COMMENT ON ROLE clerk IS 'two\nlines;'");
    }

    #[test]
    fn only_what_is_about_a_role_is_taken() {
        let of: Vec<_> = statements(GLOBALS).map(|each| subject(each).map(|of| of.role)).collect();
        let clerk = || Some("clerk".to_owned());
        let odd = || Some("Odd; One".to_owned());
        assert_eq!(of, [None, clerk(), clerk(), odd(), clerk(), clerk(), odd(), None, None]);
        let makes = statements(GLOBALS).filter_map(subject).filter(|of| of.makes).count();
        assert_eq!(makes, 2);
    }
}
