//! Tables of the past: the present one, and what the history undoes of it.

use std::thread;
use std::time::{Duration, Instant};

use weir_shm::{ReadError, Reader, Table};

use super::history::Record;

/// The recorder is at most this far behind the table.
const BEHIND_MAX: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// The history of a region, the oldest record first; what cannot be read is left out.
///
/// # Errors
/// The region cannot be read.
pub fn records(reader: &Reader) -> Result<Vec<Record>, ReadError> {
    let records = reader.history()?.into_iter();
    let texts = records.filter_map(|record| record.text);
    Ok(texts
        .filter_map(|text| serde_json::from_slice(&text).ok())
        .collect())
}

/// The table at a version, and the history that led from there to now.
///
/// # Errors
/// The region cannot be read, or its history does not reach back so far.
pub fn table_at(reader: &Reader, version: u64) -> Result<(Table, Vec<Record>), String> {
    let until = Instant::now() + BEHIND_MAX;
    loop {
        let table = reader.table().map_err(|error| error.to_string())?;
        let records = records(reader).map_err(|error| error.to_string())?;
        let is_behind = table.version > version
            && records
                .last()
                .is_none_or(|last| last.version < table.version);
        if is_behind && Instant::now() < until {
            thread::sleep(PAUSE);
            continue;
        }
        let table = undo(table, &records, version)?;
        return Ok((table, records));
    }
}

/// Goes back from `table` to `version`. What was leaving then is not known.
///
/// # Errors
/// The history does not reach back so far.
pub fn undo(mut table: Table, records: &[Record], version: u64) -> Result<Table, String> {
    if version > table.version {
        let now = table.version;
        return Err(format!(
            "there is no table version {version} yet, it is {now}"
        ));
    }
    for record in records.iter().rev() {
        if table.version <= version {
            break;
        }
        if record.version > table.version {
            continue;
        }
        if record.version != table.version || record.before == 0 {
            break;
        }
        let upstreams = record.changes.undo(std::mem::take(&mut table.upstreams));
        table.upstreams = upstreams.ok_or_else(|| {
            format!(
                "the history does not fit the table at version {}",
                record.version
            )
        })?;
        table.version = record.before;
        table.leaving.clear();
    }
    match table.version == version {
        true => Ok(table),
        false => Err(format!(
            "the history reaches back to version {}, not to {version}",
            table.version
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Cause, Changes};
    use super::*;
    use weir_shm::Upstream;

    fn table(version: u64) -> Table {
        let upstream = Upstream {
            name: format!("u{version}"),
            changed: version,
            learned: false,
            template: None,
            servers: Vec::new(),
        };
        Table {
            version,
            upstreams: vec![upstream],
            ..Table::default()
        }
    }

    fn record(before: u64, version: u64) -> Record {
        let changes = Changes::between(&table(before).upstreams, &table(version).upstreams);
        Record {
            version,
            before,
            time_ms: 0,
            cause: Cause::Start,
            held: 0,
            refused: 0,
            changes,
        }
    }

    #[test]
    fn it_goes_back_as_far_as_the_chain_is_whole() {
        let records = [record(2, 3), record(3, 4), record(4, 7), record(7, 8)];
        assert_eq!(undo(table(7), &records, 3), Ok(table(3)));
        assert_eq!(undo(table(8), &records, 8), Ok(table(8)));
        let error = undo(table(8), &records, 1).unwrap_err();
        assert_eq!(error, "the history reaches back to version 2, not to 1");
        assert!(undo(table(8), &records, 6).is_err());
        assert!(undo(table(8), &records, 9).is_err());
        assert!(undo(table(9), &records, 8).is_err());
        let mut first = records.clone();
        first[2].before = 0;
        assert!(undo(table(8), &first, 4).is_err());
    }
}
