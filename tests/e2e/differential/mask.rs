//! What cannot be equal in two proxies: names, ports, folders, times, numbers of connections.

use super::drive::Seen;
use super::proxy::Proxy;

/// What stands for product and version.
const PRODUCT: &str = "PRODUCT/VERSION";
/// Names of numbers that a case prints as `name=…` and that are each proxy's own.
const OWN: [&str; 6] = ["pid", "connection", "addr", "active", "accepted", "msec"];
/// `sent=…` of an answer with the product's name is given without what that is long.
const SENT: &str = "sent";

/// Makes the texts of one proxy comparable.
pub struct Mask<'a> {
    proxy: &'a Proxy,
}

impl<'a> Mask<'a> {
    pub fn new(proxy: &'a Proxy) -> Mask<'a> {
        Mask { proxy }
    }

    /// An answer as the client saw it.
    pub fn seen(&self, seen: &Seen) -> Seen {
        let mut seen = seen.clone();
        let version = self.proxy.product.version();
        let before = seen.body.len();
        if let Ok(body) = std::str::from_utf8(&seen.body) {
            seen.body = self.text(&self.page(body)).into_bytes();
        }
        let is_error = seen.line.get(9..10).is_some_and(|class| class >= "3");
        let html = seen.field("content-type") == Some("text/html");
        let page_of_head = seen.method == "HEAD" && is_error && html;
        for (name, value) in &mut seen.fields {
            match name.to_ascii_lowercase().as_str() {
                "date" | "expires" | "last-modified" => *value = date(value),
                "server" => *value = self.server(value),
                // A page that names the product is as much longer as its name is.
                "content-length" => match value.parse::<usize>() {
                    Ok(length) if page_of_head => *value = (length - version.len()).to_string(),
                    Ok(length) if length == before => *value = seen.body.len().to_string(),
                    _ => {}
                },
                _ => *value = self.text(value),
            }
        }
        seen
    }

    /// The last line of a page of the proxy's own.
    fn page(&self, body: &str) -> String {
        let product = self.proxy.product;
        let footer = |text: &str| format!("<hr><center>{text}</center>");
        body.replace(&footer(product.version()), &footer(PRODUCT))
            .replace(&footer(product.name()), &footer("PRODUCT"))
    }

    fn server(&self, value: &str) -> String {
        match value {
            value if value == self.proxy.product.version() => PRODUCT.to_owned(),
            value if value == self.proxy.product.name() => "PRODUCT".to_owned(),
            value => value.to_owned(),
        }
    }

    /// Any text: folders, ports, times, ids.
    pub fn text(&self, text: &str) -> String {
        let folder = self.proxy.folder().to_string_lossy();
        let mut text = text.replace(&*folder, "@DIR@");
        for (name, address) in self.proxy.peers.addresses() {
            text = text.replace(address, &format!("@{name}@"));
        }
        let mut masked = String::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find(|first: char| first.is_ascii_alphanumeric()) {
            masked.push_str(&rest[..start]);
            rest = &rest[start..];
            let word = rest.find(|end: char| !end.is_ascii_alphanumeric());
            let (word, after) = rest.split_at(word.unwrap_or(rest.len()));
            rest = after;
            if let Some(of_second) = after.strip_prefix('.')
                && is_number(word)
                && of_second.len() >= 3
                && is_number(&of_second[..3])
                && !of_second[3..].starts_with(|next: char| next.is_ascii_digit() || next == '.')
            {
                masked.push_str("TIME");
                rest = &of_second[3..];
            } else {
                masked.push_str(&self.word(word, &masked));
            }
        }
        masked + rest
    }

    fn word(&self, word: &str, before: &str) -> String {
        let name = before.strip_suffix('=').map(|before| {
            let start = before.rfind(|end: char| !end.is_ascii_alphanumeric());
            &before[start.map_or(0, |start| start + 1)..]
        });
        let number = word.parse::<u16>().ok().filter(|_| is_number(word));
        if let Some(number) = number {
            let mut ports = self.proxy.ports().iter();
            if let Some((name, _)) = ports.find(|(_, port)| **port == number) {
                return format!("@{name}@");
            }
            if self.proxy.is_client(number) {
                return "CLIENT".to_owned();
            }
        }
        match name {
            Some(name) if OWN.contains(&name) => "OWN".to_owned(),
            Some(SENT) if is_number(word) => {
                let bytes = word.parse::<usize>().unwrap_or_default();
                bytes
                    .saturating_sub(self.proxy.product.version().len())
                    .to_string()
            }
            _ if word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                "ID".to_owned()
            }
            _ => word.to_owned(),
        }
    }

    /// Lines of an access log, in an order of their own: each is written when its connection is
    /// done with the request.
    pub fn access_log(&self, log: &str) -> Vec<String> {
        // Two proxies are asked one after the other, at times in two different seconds.
        let lines = log.lines().map(|line| self.text(&clocks(line)));
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        lines
    }

    /// What the error log says from level `warn` on.
    pub fn error_log(&self, log: &str) -> Vec<String> {
        let levels = ["[warn]", "[error]", "[crit]", "[alert]", "[emerg]"];
        let severe = |line: &&str| levels.iter().any(|level| line.contains(level));
        let mut lines: Vec<_> = log
            .lines()
            .filter(severe)
            .map(|line| {
                let (_, line) = line.split_once(" [").unwrap_or(("", line));
                let (level, line) = line.split_once(']').unwrap_or(("", line));
                let message = line.split_once("#0: ").or(line.split_once(": "));
                let message = message.map_or(line, |(_, message)| message);
                let message = match message
                    .strip_prefix('*')
                    .and_then(|text| text.split_once(' '))
                {
                    Some((_, message)) => message,
                    None => message,
                };
                format!("[{level}] {}", self.text(message))
            })
            .collect();
        lines.sort();
        lines
    }
}

/// A text without its times of day.
fn clocks(text: &str) -> String {
    let is_clock = |bytes: &[u8]| {
        let mut places = bytes.iter().enumerate();
        places.all(|(place, byte)| match place {
            2 | 5 => *byte == b':',
            _ => byte.is_ascii_digit(),
        })
    };
    let mut masked = String::new();
    let mut rest = text;
    let first_of = |rest: &str| {
        let bytes = rest.as_bytes();
        // The year stands before the hour in nginx's own form.
        let begins = |at: usize| at == 0 || !bytes[at - 1].is_ascii_digit();
        let mut places = bytes.windows(8).enumerate();
        places.find_map(|(at, eight)| (begins(at) && is_clock(eight)).then_some(at))
    };
    while let Some(at) = first_of(rest) {
        masked.push_str(&rest[..at]);
        masked.push_str("CLOCK");
        rest = &rest[at + 8..];
    }
    masked + rest
}

#[test]
fn times_of_day_are_masked_and_nothing_else() {
    assert_eq!(
        clocks("2026-11-22T22:47:43+00:00 [22/Nov/2026:22:47:43 +0000] 127.0.0.1:80"),
        "2026-11-22TCLOCK+00:00 [22/Nov/2026:CLOCK +0000] 127.0.0.1:80"
    );
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// `DATE` for what looks like one.
fn date(value: &str) -> String {
    let shape: String = value
        .chars()
        .map(|c| match c {
            '0'..='9' => '0',
            'a'..='z' => 'a',
            'A'..='Z' => 'A',
            c => c,
        })
        .collect();
    match shape.as_str() {
        "Aaa, 00 Aaa 0000 00:00:00 AAA" if !value.contains(" 1970 ") => "DATE".to_owned(),
        _ => value.to_owned(),
    }
}
