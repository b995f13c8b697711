//! Where a configuration comes from.
//!
//! The file that the command line names; else the text in `STONEKEEP_CONFIG`, for platforms on which nobody can lay down a
//! file; else the usual file. An explicit `--config` wins, so that a person on such a platform can try another one.

use std::path::{Path, PathBuf};

use crate::{ConfigError, Environment, file};

/// The variable that holds a whole configuration. The kernel lets one variable have 128 KiB.
pub const VARIABLE: &str = "STONEKEEP_CONFIG";

/// Returns the text of a configuration, and what errors call the place it is in.
pub(crate) fn text(
    named: Option<&Path>,
    usual: &str,
    environment: &Environment,
) -> Result<(PathBuf, String), ConfigError> {
    if let (None, Some(value)) = (named, environment.variables.get(VARIABLE)) {
        let path = PathBuf::from(VARIABLE);
        let text = value.to_str().ok_or_else(|| ConfigError::NotText { path: path.clone() })?;
        return Ok((path, file::unfolded(text)));
    }
    let path = named.unwrap_or(Path::new(usual));
    Ok((path.to_owned(), file::read_file(path)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DaemonConfig, ReaderConfig};

    fn holding(config: &str) -> Environment {
        Environment {
            variables: [(VARIABLE, config)].into_iter().collect(),
            ..Environment::default()
        }
    }

    #[test]
    fn an_error_in_the_variable_is_told_with_its_name_line_and_column() {
        let environment = holding("signer_file = \"x\"\nstate_dir = 3\n");
        for error in [
            DaemonConfig::find(None, &environment).expect_err("refused").to_string(),
            DaemonConfig::find(None, &holding(r#"signer_file = "x"\nstate_dir = 3\n"#))
                .expect_err("refused")
                .to_string(),
        ] {
            assert!(error.starts_with("STONEKEEP_CONFIG:2:13: "), "{error}");
        }
        let error = ReaderConfig::find(None, &holding("allowed_signers_file = ")).expect_err("no");
        assert!(error.to_string().starts_with("STONEKEEP_CONFIG:1:"), "{error}");
    }

    #[test]
    fn a_file_of_the_command_line_comes_before_the_variable_and_that_before_the_usual_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("own.toml");
        std::fs::write(&path, "own = 1").expect("written");
        let place = |named: Option<&Path>, environment: Environment| {
            text(named, "/nowhere/usual.toml", &environment)
        };
        let (from, found) = place(Some(&path), holding("variable = 1")).expect("there");
        assert_eq!((from.as_path(), found.as_str()), (path.as_path(), "own = 1"));
        let (from, found) = place(None, holding("variable = 1")).expect("there");
        assert_eq!((from.to_str(), found.as_str()), (Some(VARIABLE), "variable = 1"));
        let error = place(None, Environment::default()).expect_err("nothing is there");
        assert!(error.to_string().contains("/nowhere/usual.toml"), "{error}");
    }
}
