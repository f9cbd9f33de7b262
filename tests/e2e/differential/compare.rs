//! The differences between what came of a case in nginx and in weir.

use std::collections::BTreeSet;
use std::fmt;

use super::drive::{Outcome, Seen, parse_head};
use super::mask::Mask;
use super::peer::{Asked, NAMES};

/// How much of a long value is shown.
const SHOWN: usize = 300;

/// One thing that is not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Group, case and request.
    pub place: String,
    pub what: String,
    pub nginx: String,
    pub weir: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            place,
            what,
            nginx,
            weir,
        } = self;
        write!(f, "{place} | {what} | {nginx} | {weir}")
    }
}

/// Collects differences at one place.
struct Found<'a> {
    place: String,
    all: &'a mut Vec<Difference>,
}

impl Found<'_> {
    fn compare(&mut self, what: &str, nginx: &str, weir: &str) -> bool {
        if nginx != weir {
            let shown = |value: &str| {
                let value = value.escape_debug().to_string().replace("\\\"", "\"");
                let value = value.replace("\\'", "'").replace("\\\\", "\\");
                match value.char_indices().nth(SHOWN) {
                    Some((end, _)) => format!("{}… ({} bytes)", &value[..end], value.len()),
                    None => value,
                }
            };
            self.all.push(Difference {
                place: self.place.clone(),
                what: what.to_owned(),
                nginx: shown(nginx),
                weir: shown(weir),
            });
        }
        nginx == weir
    }

    /// Values name by name; when all are equal, spelling and order too.
    fn fields(&mut self, whose: &str, nginx: &[(String, String)], weir: &[(String, String)]) {
        let names = |fields: &[(String, String)]| -> BTreeSet<String> {
            fields
                .iter()
                .map(|(name, _)| name.to_ascii_lowercase())
                .collect()
        };
        let of = |fields: &[(String, String)], wanted: &str| {
            let named = fields
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            let values: Vec<_> = named.map(|(_, value)| format!("<{value}>")).collect();
            values.join(" ")
        };
        let mut same = true;
        for name in names(nginx).union(&names(weir)) {
            let what = format!("{whose}field {name}");
            same &= self.compare(&what, &of(nginx, name), &of(weir, name));
        }
        if same {
            let order = |fields: &[(String, String)]| {
                let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
                names.join(", ")
            };
            self.compare(&format!("{whose}order"), &order(nginx), &order(weir));
        }
    }

    fn seen(&mut self, nginx: &Seen, weir: &Seen) {
        self.compare("interim", &nginx.interim.concat(), &weir.interim.concat());
        if !self.compare("status", &nginx.line, &weir.line) {
            // The rest follows from it.
            return;
        }
        self.fields("", &nginx.fields, &weir.fields);
        let body = |seen: &Seen| String::from_utf8_lossy(&seen.body).into_owned();
        self.compare("body", &body(nginx), &body(weir));
        self.compare("trailers", &nginx.trailers, &weir.trailers);
        self.compare("end", &nginx.end, &weir.end);
    }

    fn asked(&mut self, server: &str, nginx: &[Asked], weir: &[Asked], masks: (&Mask, &Mask)) {
        let lines = |all: &[Asked], mask: &Mask| {
            let lines = all.iter().map(|asked| parse_head(&asked.head).0);
            mask.text(&lines.collect::<Vec<_>>().join(", "))
        };
        if nginx.len() != weir.len() {
            let what = format!("{server} requests");
            self.compare(&what, &lines(nginx, masks.0), &lines(weir, masks.1));
            return;
        }
        for (at, (nginx_asked, weir_asked)) in nginx.iter().zip(weir).enumerate() {
            let whose = format!("{server}{} ", at + 1);
            let head = |asked: &Asked, mask: &Mask| parse_head(&mask.text(&asked.head));
            let (nginx_head, weir_head) = (head(nginx_asked, masks.0), head(weir_asked, masks.1));
            self.compare(&format!("{whose}line"), &nginx_head.0, &weir_head.0);
            self.fields(&whose, &nginx_head.1, &weir_head.1);
            let body = |asked: &Asked| String::from_utf8_lossy(&asked.body).into_owned();
            self.compare(
                &format!("{whose}body"),
                &body(nginx_asked),
                &body(weir_asked),
            );
            self.compare(
                &format!("{whose}connection"),
                connection(nginx, at),
                connection(weir, at),
            );
        }
    }
}

/// Whether the connection of a request has brought one before.
fn connection(all: &[Asked], at: usize) -> &'static str {
    let own = all[at].connection;
    match all[..at].iter().any(|before| before.connection == own) {
        true => "kept",
        false => "new",
    }
}

/// Differences of one case.
pub fn case(place: &str, nginx: (&Outcome, &Mask), weir: (&Outcome, &Mask)) -> Vec<Difference> {
    let mut all = Vec::new();
    let answers = |outcome: &Outcome, mask: &Mask| -> Vec<Seen> {
        outcome.answers.iter().map(|seen| mask.seen(seen)).collect()
    };
    let (in_nginx, in_weir) = (answers(nginx.0, nginx.1), answers(weir.0, weir.1));
    for at in 0..in_nginx.len().max(in_weir.len()) {
        let none = Seen::default();
        let (nginx, weir) = (in_nginx.get(at), in_weir.get(at));
        let named = nginx.or(weir).map_or("", |seen| seen.request.as_str());
        let mut found = Found {
            place: format!("{place}/{named}"),
            all: &mut all,
        };
        found.seen(nginx.unwrap_or(&none), weir.unwrap_or(&none));
    }
    let mut found = Found {
        place: place.to_owned(),
        all: &mut all,
    };
    for server in NAMES {
        let of = |outcome: &Outcome| -> Vec<Asked> {
            let asked = outcome.asked.iter();
            asked
                .filter(|asked| asked.server == server)
                .cloned()
                .collect()
        };
        found.asked(server, &of(nginx.0), &of(weir.0), (nginx.1, weir.1));
    }
    all
}

/// Lines of a log that only one has.
pub fn logs(place: &str, what: &str, nginx: Vec<String>, weir: Vec<String>) -> Vec<Difference> {
    let only = |these: &[String], others: &[String]| {
        let mut others = others.to_vec();
        let mut only = Vec::new();
        for line in these {
            match others.iter().position(|other| other == line) {
                Some(at) => drop(others.swap_remove(at)),
                None => only.push(line.clone()),
            }
        }
        only
    };
    let mut all = Vec::new();
    let mut found = Found {
        place: place.to_owned(),
        all: &mut all,
    };
    for line in only(&nginx, &weir) {
        found.compare(what, &line, "");
    }
    for line in only(&weir, &nginx) {
        found.compare(what, "", &line);
    }
    all
}
