//! A panic's last words.

use super::ErrorLog;
use crate::settings::Level;

/// From now on a panic of any thread writes an `[alert]` line to `log`, then the process aborts.
///
/// The logs stay open through it: to be called again when a reload puts others in force.
pub fn log_panics(log: &ErrorLog) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        log.log(Level::Alert, format_args!("{panic}"));
        std::process::abort();
    }));
}
