//! Damaged configurations: always settings or a clear refusal, never a panic, never for ever.

use std::time::{Duration, Instant};

use super::build;

/// Mutants of each seed.
const ROUNDS: u64 = 4000;
/// The time of one mutant at most: far more than a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(20);

const SEEDS: [&str; 3] = [
    include_str!("../../../conf/article.conf"),
    include_str!("../../../conf/weir.conf"),
    "user root;\nworker_processes 2;\nregion /dev/shm/a servers=9;\nevents { worker_connections 64; }\nhttp {\n\
     log_format f '$remote_addr \"$request\"' escape=default;\ntypes { text/html html; }\nupstream u {\n\
     server 127.0.0.1:80 weight=5 max_fails=2 fail_timeout=3s backup;\nserver unix:/a;\nserver [::1]:9 down;\n\
     keepalive 4 local;\nupsync [::1]:8500/v1/kv/u upsync_interval=50ms;\n}\nserver {\n\
     listen 127.0.0.1:8080 default_server backlog=9;\nlisten unix:/b;\nserver_name a.b *.c .d e.*;\n\
     location ^~ /x { proxy_pass http://u/y; proxy_set_header A \"b $host ${uri}\\n\"; allow 10.0.0.0/8; }\n\
     location = /z { return 301 http://$host$request_uri; add_header K v always; }\n} }\n",
];

/// Pieces that the mutants are made with.
const PIECES: [&str; 24] = [
    "{",
    "}",
    ";",
    "\"",
    "'",
    "\\",
    "$",
    "${",
    "#",
    "\n",
    " ",
    "\0",
    "\u{feff}",
    "server",
    "include *;",
    "location / {",
    "99999999999999999999",
    "unix:",
    "[::",
    ":",
    "/",
    "=",
    "\u{1b}[2J",
    "# configuration file a:\n",
];

/// xorshift64*: the same mutants in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

fn boundary(text: &str, random: &mut Random) -> usize {
    let mut at = random.below(text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn mutate(text: &mut String, random: &mut Random) {
    let (a, b) = (boundary(text, random), boundary(text, random));
    let (start, end) = (a.min(b), a.max(b).min(a.min(b) + 40));
    let end = (start..=end)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(start);
    match random.below(4) {
        0 => text.insert_str(start, PIECES[random.below(PIECES.len())]),
        1 => text.replace_range(start..end, ""),
        2 => text.replace_range(start..end, PIECES[random.below(PIECES.len())]),
        _ => {
            let piece = text[start..end].to_owned();
            let at = boundary(text, random);
            text.insert_str(at, &piece);
        }
    }
}

#[test]
fn mutants_build_or_are_refused_with_a_place() {
    let mut random = Random(0x5EED);
    let (mut taken, mut refused) = (0, 0);
    for seed in SEEDS {
        for _ in 0..ROUNDS {
            let mut text = seed.to_owned();
            for _ in 0..=random.below(4) {
                mutate(&mut text, &mut random);
            }
            let started = Instant::now();
            match build(&text) {
                Ok(_) => taken += 1,
                Err(message) => {
                    refused += 1;
                    assert!(!message.is_empty());
                    let clean = message
                        .chars()
                        .all(|character| character == '\n' || !character.is_control());
                    assert!(clean, "{message:?}");
                }
            }
            assert!(started.elapsed() < LIMIT, "{text}");
        }
    }
    // Neither everything nor nothing goes through: the mutants are near the language.
    assert!(
        taken > 500 && refused > 500,
        "{taken} taken, {refused} refused"
    );
}

#[test]
fn junk_is_refused() {
    let mut random = Random(0xBAD);
    for _ in 0..500 {
        let length = random.below(300);
        let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        let _ = build(&String::from_utf8_lossy(&bytes));
        let words: Vec<_> = (0..random.below(60))
            .map(|_| PIECES[random.below(PIECES.len())])
            .collect();
        let _ = build(&words.concat());
    }
}
