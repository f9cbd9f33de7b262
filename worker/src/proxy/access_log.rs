//! Lines of the access logs.

use super::Network;
use super::describe::errno;
use super::exchange::Exchange;
use super::session::Session;
use crate::conf::Conf;
use crate::log::cache::{Failed, write_once};
use crate::log::files::Lost;
use crate::settings::{AccessLog, Level, LocationSettings, LogName, ResourceId, Template};

impl<N: Network> Session<'_, N> {
    /// Writes the request's lines. Whatever fails is no concern of the request.
    pub(super) fn log_access(&mut self, exchange: &Exchange) {
        let (Some(location), Some(conf)) = (&exchange.location, &exchange.conf) else {
            return;
        };
        if location.access_logs.is_empty() {
            return;
        }
        let mut line = std::mem::take(&mut self.shared.line);
        for log in &location.access_logs {
            if self.is_wanted(exchange, log, &mut line) {
                line.clear();
                log.format.write(&self.values(exchange), &mut line);
                match &log.to {
                    LogName::File(id) => {
                        let written = conf.files.append(*id, &line, self.shared.now_ms);
                        if let Err(lost) = written
                            && conf.files.complains(*id, self.shared.now_ms)
                        {
                            self.log_lost(exchange, &lost);
                        }
                        self.tell_lost(conf, *id);
                    }
                    LogName::Path(path) => self.log_into(exchange, location, conf, path, &line),
                }
            }
        }
        self.shared.line = line;
    }

    /// `if=`
    fn is_wanted(&self, exchange: &Exchange, log: &AccessLog, scratch: &mut Vec<u8>) -> bool {
        let Some(filter) = &log.filter else {
            return true;
        };
        scratch.clear();
        self.render(exchange, filter, scratch);
        !matches!(scratch.as_slice(), b"" | b"0")
    }

    /// Writes a line into a log with variables in its name.
    fn log_into(
        &mut self,
        exchange: &Exchange,
        location: &LocationSettings,
        conf: &Conf,
        path: &Template,
        line: &[u8],
    ) {
        let mut name = std::mem::take(&mut self.shared.log_path);
        name.clear();
        self.render(exchange, path, &mut name);
        let now = self.shared.now_ms / 1000;
        let mut caches = conf.log_caches.borrow_mut();
        let cache = location
            .log_file_cache
            .and_then(|place| caches.get_mut(place));
        let written = match cache {
            Some(cache) => cache.write(&name, line, now),
            None => write_once(&name, line),
        };
        drop(caches);
        match written {
            Ok(()) => {}
            Err(Failed::Open(error)) => self.log_request(
                exchange,
                Level::Crit,
                format_args!(
                    "open() \"{}\" failed ({}) while logging request",
                    String::from_utf8_lossy(&name),
                    errno(&error)
                ),
            ),
            Err(Failed::Write(error)) => {
                conf.files.count_lost(1);
                if conf.complains_of_paths(now) {
                    let path = String::from_utf8_lossy(&name).into_owned();
                    self.log_lost(exchange, &Lost { path, error });
                }
            }
        }
        self.shared.log_path = name;
    }

    /// Of a log that works again.
    fn tell_lost(&self, conf: &Conf, id: ResourceId) {
        let count = conf.files.lost_before(id, self.shared.now_ms / 1000);
        if count > 0 {
            let path = conf.files.path(id);
            self.shared.log().log(
                Level::Warn,
                format_args!("{count} lines of \"{path}\" could not be written"),
            );
        }
    }

    fn log_lost(&self, exchange: &Exchange, lost: &Lost) {
        self.log_request(
            exchange,
            Level::Alert,
            format_args!("{lost} while logging request"),
        );
    }
}
