//! The region that a command looks at.

use std::path::PathBuf;

use weir_master::syncer::recorder::report;
use weir_shm::{ReadError, Reader, Report as Verified};

use super::arguments::Arguments;
use super::text::shown;

/// An open region.
pub struct Place {
    /// Its file.
    pub path: PathBuf,
    /// JSON is wanted.
    pub json: bool,
    pub reader: Reader,
}

impl Place {
    /// Opens the region that the command line means.
    pub fn open(arguments: &Arguments) -> Result<Place, super::Failure> {
        let path = arguments.path()?;
        let reader = Reader::open(&path)
            .map_err(|error| format!("\"{}\": {error}", shown(&path.to_string_lossy())))?;
        Ok(Place {
            path,
            json: arguments.json,
            reader,
        })
    }

    /// Reads something of it; the error names the file.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T, ReadError>) -> Result<T, String> {
        read(&self.reader).map_err(|error| self.about(&error.to_string()))
    }

    /// Checks all of it.
    pub fn verify(&mut self) -> Result<Verified, String> {
        let verified = self.reader.verify();
        verified.map_err(|error| self.about(&error.to_string()))
    }

    /// What the syncer says of itself; nothing before its first word.
    pub fn report(&self) -> Result<report::Report, String> {
        let text = self.read(|reader| reader.report())?;
        if text.is_empty() {
            return Ok(report::Report::default());
        }
        report::Report::parse(&text)
            .ok_or_else(|| self.about("the syncer's report is of another release"))
    }

    /// A message that names the file.
    pub fn about(&self, message: &str) -> String {
        format!(
            "\"{}\": {}",
            shown(&self.path.to_string_lossy()),
            shown(message)
        )
    }
}
