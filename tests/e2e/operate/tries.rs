//! What entries would do.

use std::fs;

use super::{addresses, fails, shared, told, wait_has};
use crate::support::consul::{self, Consul, ENTRY};
use crate::support::unique;
use crate::support::wait_until;
use crate::support::weir::{SOON, Setup, in_server};

#[test]
fn entries_are_tried_without_being_applied() {
    let consul = Consul::shared();
    let folder = consul::folder();
    consul.put(&format!("{folder}/192.0.2.1:1"), ENTRY);
    consul.put(&format!("{folder}/bad"), "{");
    let weir = shared(&folder).workers(1).start();
    wait_has(&weir, "192.0.2.1:1");
    let tried = told(
        &weir,
        &["try", &format!("{folder}/192.0.2.2:2={{\"weight\":3}}")],
    );
    assert_eq!(
        tried,
        "upstream test +192.0.2.2:2\n        servers 1 to 2, 75.0% of the requests move\n"
    );
    fails(
        &weir.weirctl(&["try", &format!("{folder}/x={{")]),
        1,
        "refused",
    );
    fails(
        &weir.weirctl(&["try", "elsewhere/192.0.2.2:2="]),
        1,
        "no upstream has a folder",
    );
    let file = weir.path("entries.json");
    let entries = format!(
        r#"[{{"key":"{folder}/192.0.2.5:5","flags":0,"value":"eyJ3ZWlnaHQiOjJ9"}},
            {{"Key":"{folder}/192.0.2.6:0","Value":null}}]"#
    );
    fs::write(&file, entries).unwrap();
    let done = weir.weirctl(&["try", file.to_str().unwrap()]);
    fails(&done, 1, "upstream test +192.0.2.5:5 -192.0.2.1:1\n");
    fails(&done, 1, "has port 0");
    assert_eq!(addresses(&weir), ["192.0.2.1:1"]);
    // What is there already moves nothing, in whichever order it was added.
    consul.put(&format!("{folder}/192.0.2.7:7"), ENTRY);
    wait_has(&weir, "192.0.2.7:7");
    let target = format!("/v1/kv/{folder}/192?recurse");
    fs::write(&file, consul.request("GET", &target, "").text()).unwrap();
    assert_eq!(
        told(&weir, &["try", file.to_str().unwrap()]),
        "upstream test the same servers\n        servers 2 to 2, 0.0% of the requests move\n"
    );

    wait_until(SOON, "the bad entry is listed", || {
        let errors = weir.weirctl_json(&["errors"]);
        errors["refused_total"] == 1 && errors["refused"][0]["key"] == format!("{folder}/bad")
    });
    assert!(told(&weir, &["errors"]).contains("value is not JSON"));
    fails(&weir.weirctl(&["check"]), 1, "refused: 1 entry");
}

#[test]
fn the_instances_of_a_service_are_tried_as_consul_lists_them() {
    let consul = Consul::shared();
    let service = unique("web");
    consul.register(&service, "192.0.2.1:80");
    let text = |kind: &str, endpoint: &str| {
        format!(
            "upstream {kind} {{ server 192.0.2.9:9; upsync {}/v1/{endpoint}/service/{service} \
             upsync_type=consul_{kind}; }}",
            consul.address()
        )
    };
    let both = text("services", "catalog") + &text("health", "health");
    let weir = Setup::http(&(both + &in_server(""))).workers(1).start();
    told(&weir, &["wait", "--has", "services/192.0.2.1:80"]);
    told(&weir, &["wait", "--has", "health/192.0.2.1:80"]);
    let file = weir.path("instances.json");
    let path = file.to_str().unwrap();
    for (upstream, endpoint) in [("services", "catalog"), ("health", "health")] {
        let target = format!("/v1/{endpoint}/service/{service}");
        let list = consul.request("GET", &target, "").text();
        fs::write(&file, &list).unwrap();
        assert_eq!(
            told(&weir, &["try", path]),
            format!(
                "upstream {upstream} the same servers\n        \
                 servers 1 to 1, 0.0% of the requests move\n"
            )
        );
        fs::write(&file, list.replace("192.0.2.1", "192.0.2.2")).unwrap();
        let tried = told(&weir, &["try", path]);
        assert!(
            tried.contains(&format!("{upstream} +192.0.2.2:80 -192.0.2.1:80\n")),
            "{tried}"
        );
        let other = list.replace(&service, "another");
        fs::write(&file, other).unwrap();
        fails(&weir.weirctl(&["try", path]), 1, "of service \"another\"");
    }
    fails(
        &weir.weirctl(&["try", "web/192.0.2.3:3="]),
        1,
        "no upstream has a folder with these keys",
    );
}
