//! Settings that would change a row, or stop a load, if the target's own were left in force.

/// What must hold in every session that restores, ours and pg_restore's.
///
/// `array_nulls = off` turns NULL elements into the text 'NULL'; another `lc_monetary` changes amounts of money;
/// `IntervalStyle = sql_standard` gives a leading minus another meaning; `transform_null_equals` rewrites views;
/// `xmloption = document` refuses XML that the source held. The timeouts stop a load that is merely long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    /// `lc_monetary` of the source, if the target knows that locale.
    pub lc_monetary: Option<String>,
    /// Whether the role may set what only a superuser may: a role that may not is refused at login over it.
    pub superuser: bool,
    /// Whether no trigger fires and no foreign key is looked at; takes a superuser.
    pub replica: bool,
    /// `server_version_num` of the target.
    pub server_version_num: i32,
}

const ALWAYS: [(&str, &str); 10] = [
    ("array_nulls", "on"),
    ("default_transaction_read_only", "off"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("transform_null_equals", "off"),
    ("xmloption", "content"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("row_security", "off"),
];

impl Pins {
    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let replication = self.superuser.then_some((
            "session_replication_role",
            if self.replica { "replica" } else { "origin" },
        ));
        let timeout = (self.server_version_num >= 170_000).then_some(("transaction_timeout", "0"));
        let money = self.lc_monetary.as_deref().map(|locale| ("lc_monetary", locale));
        ALWAYS.into_iter().chain(replication).chain(timeout).chain(money)
    }

    /// Returns the settings as the environment variable PGOPTIONS of a child.
    #[must_use]
    pub fn as_options(&self) -> String {
        let options: Vec<String> = self
            .settings()
            .map(|(name, value)| format!("-c {name}={}", escape_option(value)))
            .collect();
        options.join(" ")
    }

    /// Returns the settings as SET statements.
    #[must_use]
    pub fn as_sql(&self) -> String {
        self.settings()
            .map(|(name, value)| format!("SET {name} TO {};\n", crate::sql::literal(value)))
            .collect()
    }
}

/// libpq's rule for PGOPTIONS: a backslash keeps the space after it in the value.
fn escape_option(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_superuser_names_superuser_settings() {
        let common = Pins { server_version_num: 150_000, ..Pins::default() };
        assert!(!common.as_options().contains("session_replication_role"));
        assert!(
            Pins { superuser: true, ..common }
                .as_options()
                .contains("-c session_replication_role=origin")
        );
    }

    #[test]
    fn a_locale_with_a_space_stays_one_value() {
        let pins =
            Pins { lc_monetary: Some("English_United States".to_owned()), ..Pins::default() };
        assert!(pins.as_options().contains(r"lc_monetary=English_United\ States"));
        assert!(pins.as_sql().contains("SET lc_monetary TO 'English_United States';"));
    }
}
