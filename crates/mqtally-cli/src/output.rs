//! Results for programs, written whole: a file that is there is complete.

use crate::exit::{self, Failure};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tempfile::{Builder, NamedTempFile};

const ADVICE: &str = "name a file in a directory that exists and can be written";

/// Where a result goes, as it was typed: a file, or `-` for standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

impl FromStr for Target {
    type Err = std::convert::Infallible;

    fn from_str(typed: &str) -> Result<Target, Self::Err> {
        Ok(if typed == "-" { Target::Stdout } else { Target::File(typed.into()) })
    }
}

/// A target that can be written, which is found out before the work is done whose result it takes.
pub(crate) enum Output {
    Stdout,
    /// Becomes the file when it is complete.
    Whole(NamedTempFile, PathBuf),
    /// A pipe or device, which a file must not take the place of.
    Direct(File, PathBuf),
}

impl Output {
    /// Makes sure that the target can be written; leaves it as it is.
    pub(crate) fn prepare(target: &Target) -> Result<Output, Failure> {
        match target {
            Target::Stdout => Ok(Output::Stdout),
            Target::File(path) => Output::prepare_file(path).map_err(|error| unwritable(path, &error)),
        }
    }

    fn prepare_file(path: &Path) -> io::Result<Output> {
        // A link is followed, not replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) if !metadata.is_file() => {
                Ok(Output::Direct(OpenOptions::new().write(true).open(&path)?, path))
            }
            _ => {
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                // What the umask leaves of these, as for any file; the default would be for the owner only.
                let permissions = Permissions::from_mode(0o666);
                let file = Builder::new()
                    .prefix(".mqtally-")
                    .permissions(permissions)
                    .tempfile_in(directory.unwrap_or(Path::new(".")))?;
                Ok(Output::Whole(file, path))
            }
        }
    }

    /// Writes the result.
    pub(crate) fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Output::Stdout => exit::print(bytes),
            Output::Direct(mut file, path) => {
                file.write_all(bytes).map_err(|error| unwritable(&path, &error))
            }
            Output::Whole(mut file, path) => {
                let written = file.write_all(bytes).and_then(|()| file.as_file().sync_all());
                written.map_err(|error| unwritable(&path, &error))?;
                file.persist(&path).map(drop).map_err(|error| unwritable(&path, &error.error))
            }
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::io("cannot write the report", path, error, ADVICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(path: &Path) -> Output {
        Output::prepare(&Target::File(path.to_owned())).expect("writable")
    }

    #[test]
    fn a_report_that_is_not_written_leaves_what_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("report.json");
        fs::write(&path, "old").expect("written");
        drop(output(&path));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "old");
        output(&path).write(b"new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("there"), "new");
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        assert!(matches!(output(Path::new("/dev/null")), Output::Direct(..)));
    }

    #[test]
    fn a_directory_is_no_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let failure = Output::prepare(&Target::File(directory.path().to_owned())).err().expect("refused");
        assert_eq!(failure.status(), crate::exit::ExitStatus::Io);
    }
}
