//! The process tree under what a real configuration cannot bring about: a worker that cannot build
//! what the master could, processes that do not answer, deaths between two phases.
//!
//! This program is its own weir: called with `--weir FILE` it runs a master of the configuration
//! in FILE (words of this test's own), which needs a process with one thread.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
#![allow(clippy::print_stdout, reason = "it is its own test runner")]

mod tree {
    pub mod passing;
    pub mod processes;
    pub mod program;
    pub mod reload;
    pub mod weir;
}

use std::process::ExitCode;
use std::time::Instant;

use tree::{passing, processes, program, reload};

/// Tests with their names.
macro_rules! tests {
    ($($module:ident::$test:ident,)*) => {
        &[$((stringify!($test), $module::$test)),*]
    };
}

/// A test and its name.
type Test = (&'static str, fn());

const TESTS: &[Test] = tests![
    reload::a_refusing_worker_leaves_everything_as_it_was,
    reload::orders_that_arrive_incomplete_refuse_a_reload,
    reload::an_unknown_host_is_refused_by_the_syncer,
    reload::a_worker_that_does_not_answer_refuses_a_reload,
    reload::a_worker_that_dies_while_it_prepares_is_replaced,
    reload::a_syncer_that_dies_while_it_prepares_refuses_a_reload,
    reload::a_stop_does_not_wait_for_a_reload,
    processes::adding_and_retiring_leaks_no_socket,
    processes::worker_processes_change_in_place,
    processes::a_start_that_fails_leaves_nothing,
    reload::workers_that_do_not_follow_a_commit_are_replaced,
    processes::what_a_process_begins_with_replaces_it,
    processes::another_region_takes_the_place_of_the_one_in_force,
    processes::a_stuck_worker_is_ended_and_an_idle_one_is_not,
    reload::a_region_that_is_refused_is_removed,
    passing::a_retired_worker_reopens_the_logs_that_it_has,
    passing::sockets_and_logs_that_do_not_arrive_replace_the_worker,
    passing::sockets_of_a_neighbour_that_do_not_arrive_are_sent_again,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, file] = &arguments[..]
        && mode == "--weir"
    {
        return program::run(file);
    }
    // As libtest: words select tests by a part of their names.
    let words: Vec<&String> = arguments[1..]
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    for (name, test) in TESTS {
        if words.is_empty() || words.iter().any(|word| name.contains(word.as_str())) {
            let begun = Instant::now();
            test();
            println!("test {name} ... ok ({} ms)", begun.elapsed().as_millis());
        }
    }
    ExitCode::SUCCESS
}
