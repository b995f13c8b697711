//! What an error asks of the person who meets it.

/// What to do about an error; each kind is one exit code of both binaries.
///
/// Every error enum of the workspace has a `kind()` that folds its variants into this, so that scripts can act on the exit
/// code alone. The numbers are those of BSD's `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line or its arguments are wrong: fix them. Exit 64.
    Usage,
    /// Something is corrupt, foreign or not trusted: page someone. Exit 65.
    Corrupt,
    /// A server cannot be reached at all. Exit 69.
    Unreachable,
    /// Our bug. Exit 70.
    Internal,
    /// What is already at the target is in the way. Exit 73.
    Conflict,
    /// Try again later; the same call may succeed. Exit 75.
    Unavailable,
    /// A password, a right or an identity is wrong or missing. Exit 77.
    Denied,
    /// The configuration names something that is not there or may not be so. Exit 78.
    Config,
}

impl ErrorKind {
    /// Returns the exit code of a process that ends with an error of this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Corrupt => 65,
            Self::Unreachable => 69,
            Self::Internal => 70,
            Self::Conflict => 73,
            Self::Unavailable => 75,
            Self::Denied => 77,
            Self::Config => 78,
        }
    }
}
