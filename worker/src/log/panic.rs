//! A panic's last words.

use std::sync::{Mutex, PoisonError};

use super::ErrorLog;
use crate::settings::Level;

/// The log in force, for a hook that knows no other way to it.
static LOG: Mutex<Option<ErrorLog>> = Mutex::new(None);

/// From now on a panic of any thread writes an `[alert]` line to the log named last by
/// [`panics_to`], or to standard error, and aborts the process.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let log = LOG.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let log = log.unwrap_or_else(|| ErrorLog::stderr(Level::Alert));
        log.log(Level::Alert, format_args!("{panic}"));
        std::process::abort();
    }));
}

/// Names the log for the last words, which stays open for them; for each log put in force, and
/// `None` in a child that must not hold its parent's.
pub fn panics_to(log: Option<&ErrorLog>) {
    let old = std::mem::replace(
        &mut *LOG.lock().unwrap_or_else(PoisonError::into_inner),
        log.cloned(),
    );
    // Closing files is no work to do under the lock.
    drop(old);
}
