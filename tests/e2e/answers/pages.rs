//! nginx's own pages.

use super::Both;

#[test]
fn every_status_has_nginxs_page() {
    let codes: Vec<u16> = (300..=310).chain(400..=432).chain(490..=510).collect();
    let locations: String = codes
        .iter()
        .map(|code| format!("location = /{code} {{ return {code}; }}\n"))
        .collect();
    let both = Both::server(&locations);
    // Debian's nginx does not know the page of 407 yet.
    for code in codes.iter().filter(|&&code| code != 407) {
        both.get(&format!("/{code}"));
    }
    let weir = both.weir.get("/407");
    assert!(
        weir.head
            .starts_with("HTTP/1.1 407 Proxy Authentication Required\r\n")
    );
    assert!(
        weir.text()
            .contains("<h1>407 Proxy Authentication Required</h1>")
    );
}

#[test]
fn errors_before_a_location_have_their_pages_too() {
    let both = Both::server("location / { client_max_body_size 3; return 200 x; }");
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        both.say("GET", request);
    }
    let long = "x".repeat(9000);
    both.ask("GET", &format!("/{long}"), "", "");
    both.ask("GET", "/", &format!("X-Long: {long}\r\n"), "");
}

#[test]
fn browsers_with_pages_of_their_own_get_longer_ones() {
    let both = Both::server(
        "location = /404 { return 404; } location = /301 { return 301 /; } location = /999 { return 999; }
         location = /off { msie_padding off; return 404; }",
    );
    let agents = [
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.0)",
        "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
        "Mozilla/5.0 (X11; rv:120.0) Gecko/20100101 Firefox/120.0",
        "Mozilla/4.0 (compatible; MSIE 6.0; Windows) Opera 8",
    ];
    for agent in agents {
        for target in ["/404", "/301", "/999", "/off"] {
            both.ask("GET", target, &format!("User-Agent: {agent}\r\n"), "");
        }
    }
    let fields = format!("User-Agent: {}\r\n", agents[1]);
    assert!(
        both.ask("GET", "/404", &fields, "")
            .contains("a padding to disable")
    );
}
