//! Who writes the files that there is one of: dumps and the state. While a binary is changed, two
//! syncers run, and it is the one whose region is found at its path.

use std::path::PathBuf;
use std::sync::Arc;

use weir_shm::Reader;

/// A region and the path that it was put at.
#[derive(Clone, Debug, Default)]
pub struct Place {
    held: Option<(Arc<Reader>, PathBuf)>,
}

impl Place {
    /// That of an open region.
    pub fn new(region: Arc<Reader>, path: PathBuf) -> Place {
        Place {
            held: Some((region, path)),
        }
    }

    /// Whether no other region has taken the place.
    pub fn is_held(&self) -> bool {
        let held = self.held.as_ref();
        held.is_none_or(|(region, path)| !path.exists() || region.is_at(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shm::{Capacity, Region};

    #[test]
    fn a_place_is_held_until_another_region_has_it() {
        assert!(Place::default().is_held());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir.region");
        let capacity = Capacity {
            servers: 4,
            upstreams: 2,
            workers: 1,
            ..Capacity::default()
        };
        let region = |path: &std::path::Path| {
            let region = Region::create(path, capacity).unwrap();
            Arc::new(region.reader().unwrap())
        };
        let first = Place::new(region(&path), path.clone());
        assert!(first.is_held());
        let second = Place::new(region(&path), path.clone());
        assert!(!first.is_held() && second.is_held());
        std::fs::remove_file(&path).unwrap();
        assert!(first.is_held(), "nobody else has it");
    }
}
