//! The old master's part in a binary upgrade: its [`handover`] is there before the new one starts, and
//! up to date for as long as both run.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use weir_shm::Reader;

use super::Master;
use crate::errno::describe;
use crate::handover;

/// How often what the workers have counted is written again.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Handing {
    region: PathBuf,
    reader: Reader,
    /// When to write again.
    due: Instant,
}

impl Handing {
    /// When there is something to do.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    fn write(&self) -> Result<(), String> {
        handover::write(&self.region, Pid::this(), &self.reader)
    }
}

impl Master {
    /// Writes the handover for a binary that is about to be started.
    pub(super) fn begin_handing_over(&mut self) {
        let region = self.cycle.settings.region.path.clone();
        let begun = self.region.reader().map_err(|error| error.to_string());
        let begun = begun.and_then(|reader| {
            let due = Instant::now() + PAUSE;
            let handing = Handing {
                region,
                reader,
                due,
            };
            handing.write().map(|()| handing)
        });
        match begun {
            Ok(handing) => self.handing = Some(handing),
            // One that can read the region does not need it.
            Err(message) => self.log.warn(message),
        }
    }

    /// Writes the handover again when it is time, unless the new binary has taken it away.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let Some(handing) = self.handing.as_mut().filter(|handing| handing.due <= now) else {
            return;
        };
        if !handover::path(&handing.region).exists() {
            self.handing = None;
            return;
        }
        handing.due = now + PAUSE;
        if let Err(message) = handing.write() {
            self.log.error_line(message);
        }
    }

    /// Writes the handover for the last time: all workers have ended.
    pub(super) fn finish_handing_over(&mut self) {
        let now = Instant::now();
        if let Some(handing) = &mut self.handing {
            handing.due = now;
        }
        self.hand_over(now);
        self.handing = None;
    }

    /// There is nobody to hand over to.
    pub(super) fn stop_handing_over(&mut self) {
        if let Some(handing) = self.handing.take()
            && let Err(error) = handover::remove(&handing.region)
        {
            let path = handover::path(&handing.region);
            self.log.alert(format_args!(
                "unlink() \"{}\" failed {}",
                path.display(),
                describe(&error)
            ));
        }
    }
}
