//! System calls that fail when a test says so. A release build has none of this: what
//! `debug_assertions` leaves in asks the environment once, a release build never.
//!
//! `WEIR_FAIL=CALL:ERRNO:PATH` names one of the [`Call`]s, the number of the error, and a plan: a file
//! with one byte for each such call in the order in which the processes of one weir make them, `1` for
//! one that fails. All processes share the open file, so that "the n-th call" is the n-th of them all;
//! behind the end of the plan every call succeeds. Each failure puts a `!` at the end of the plan.

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `socket(2)`
    Socket,
    /// `accept4(2)`
    Accept,
    /// `connect(2)`
    Connect,
    /// `mmap(2)`, of the region
    Mmap,
    /// `fork(2)`
    Fork,
    /// `malloc(3)`, of a buffer
    Allocate,
}

/// To be asked before the call is made.
///
/// # Errors
/// The one that a test has planned for it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn check(_: Call) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use planned::check;

#[cfg(debug_assertions)]
mod planned {
    use std::fs::File;
    use std::io::{self, Read};
    use std::os::unix::fs::FileExt;
    use std::sync::OnceLock;

    use super::Call;

    /// Where a test says what is to fail.
    const VARIABLE: &str = "WEIR_FAIL";
    const FAILS: u8 = b'1';
    const FAILED: &[u8] = b"!";

    struct Plan {
        call: Call,
        error: i32,
        file: File,
    }

    /// Read by the first process, before it forks: the others inherit the open file.
    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

    /// To be asked before the call is made.
    ///
    /// # Errors
    /// The one that a test has planned for it.
    pub fn check(call: Call) -> io::Result<()> {
        let plan = PLAN.get_or_init(|| Plan::parse(&std::env::var(VARIABLE).ok()?));
        match plan {
            Some(plan) if plan.call == call => plan.next(),
            _ => Ok(()),
        }
    }

    impl Plan {
        fn parse(text: &str) -> Option<Plan> {
            let mut parts = text.splitn(3, ':');
            let call = match parts.next()? {
                "socket" => Call::Socket,
                "accept" => Call::Accept,
                "connect" => Call::Connect,
                "mmap" => Call::Mmap,
                "fork" => Call::Fork,
                "malloc" => Call::Allocate,
                _ => return None,
            };
            let error = parts.next()?.parse().ok()?;
            // Appending: pwrite then goes to the end, and moves nobody's place in the plan.
            let file = File::options().read(true).append(true).open(parts.next()?);
            let file = file.ok()?;
            Some(Plan { call, error, file })
        }

        fn next(&self) -> io::Result<()> {
            let mut step = [0];
            let count = (&self.file).read(&mut step)?;
            if count == 0 || step[0] != FAILS {
                return Ok(());
            }
            self.file.write_at(FAILED, 0)?;
            Err(io::Error::from_raw_os_error(self.error))
        }
    }

    #[test]
    fn a_plan_fails_the_calls_that_it_says() {
        let plan = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(plan.path(), "0110").unwrap();
        let parsed = Plan::parse(&format!("accept:24:{}", plan.path().display())).unwrap();
        assert_eq!(parsed.call, Call::Accept);
        let outcomes: Vec<_> = (0..9)
            .map(|_| parsed.next().map_err(|error| error.raw_os_error()))
            .collect();
        let (fine, fails) = (Ok(()), Err(Some(24)));
        assert_eq!(
            outcomes,
            [fine, fails, fails, fine, fine, fine, fine, fine, fine]
        );
        assert_eq!(std::fs::read_to_string(plan.path()).unwrap(), "0110!!");
        assert!(Plan::parse("open:24:/dev/null").is_none());
        assert!(Plan::parse("accept:x:/dev/null").is_none());
    }
}
