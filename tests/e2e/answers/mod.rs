//! Answers of weir's own: side by side with nginx's where Debian's nginx has the same directives.

mod error_pages;
mod fields;
mod pages;
mod redirects;
mod returned;
mod trailers;

use crate::support::client::{Client, Failure, Response};
use crate::support::nginx::Nginx;
use crate::support::weir::{Setup, Weir};

/// weir and nginx with the same servers.
struct Both {
    weir: Weir,
    nginx: Nginx,
}

impl Both {
    /// With this in `http {}`.
    fn http(body: &str) -> Both {
        Both {
            weir: Setup::http(body).start(),
            nginx: Nginx::start(body),
        }
    }

    /// One server on `@PORT@` with these locations.
    fn server(body: &str) -> Both {
        Both::http(&format!("server {{ listen 127.0.0.1:@PORT@; {body} }}"))
    }

    /// Sends both the same bytes, each on a connection of its own, and compares the answers; what
    /// they said.
    #[track_caller]
    fn say(&self, method: &str, request: &str) -> String {
        let ask = |mut client: Client, port: u16| {
            client.send(request.as_bytes()).unwrap();
            show(client.response(method), port)
        };
        let weir = ask(self.weir.connect(), self.weir.port("PORT"));
        let nginx = ask(self.nginx.connect(), self.nginx.port());
        assert_eq!(weir, nginx, "{request}");
        weir
    }

    #[track_caller]
    fn ask(&self, method: &str, target: &str, fields: &str, body: &str) -> String {
        let length = match (body.len(), method) {
            (0, "GET" | "HEAD") => String::new(),
            (length, _) => format!("Content-Length: {length}\r\n"),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nHost: h.example\r\n{fields}{length}\r\n");
        self.say(method, &(head + body))
    }

    #[track_caller]
    fn get(&self, target: &str) -> String {
        self.ask("GET", target, "", "")
    }
}

/// An answer without what tells the two servers apart: time, name, port, and the lengths that
/// follow from the name.
fn show(answer: Result<Response, Failure>, port: u16) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Failure::Closed) => return "closed".to_owned(),
        Err(failure) => return failure.to_string(),
    };
    let product = answer.field("server").unwrap_or_default().to_owned();
    let body = answer.text();
    let mut text = String::new();
    for line in answer.head.trim_end().split("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        let differs = match name {
            "Server" | "Date" => true,
            "Content-Length" => body.contains(&product) || body.is_empty(),
            _ => false,
        };
        let fixed = [" 1970 ", " 2037 "].iter().any(|year| line.contains(year));
        if name == "Expires" && !fixed {
            text += "Expires: TIME\n";
        } else if !differs {
            text += &format!("{line}\n");
        }
    }
    text += &format!("\n{}", body.replace(&product, "PRODUCT"));
    for line in &answer.trailers {
        text += &format!("\n{line}");
    }
    text.replace(&format!(":{port}"), ":PORT")
}

#[test]
fn the_comparison_sees_what_differs() {
    let both = Both {
        weir: Setup::server("location / { return 200 one; }").start(),
        nginx: Nginx::start("server { listen @PORT@; location / { return 200 two; } }"),
    };
    let get = std::panic::AssertUnwindSafe(|| both.get("/"));
    assert!(std::panic::catch_unwind(get).is_err());
}
