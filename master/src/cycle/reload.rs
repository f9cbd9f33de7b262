//! HUP: new settings into the running children, in two phases. Before the commit any failure
//! leaves everything as it was; after it, a child that does not follow is replaced.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use socket2::Socket;
use weir_shm::Address;
use weir_worker::channel::{Order, Role as Passed};

use super::region::NextRegion;
use super::replace::pin;
use super::seat::Child;
use super::start::tell_warnings;
use super::{Cycle, Master, Role};
use crate::errno::describe;
use crate::listening::Added;
use crate::log::Log;
use crate::private::PrivateFiles;
use crate::room::workers_of;
use crate::{check, orders, resources, temp};

/// What the workers may take to build their settings, or to put them in force.
const WORKERS_BOUND: Duration = Duration::from_secs(10);
/// What the syncer may take to prepare, beyond `upsync_start_timeout`.
const SYNCER_MARGIN: Duration = Duration::from_secs(10);

/// A reload under way.
pub(super) struct Reload {
    started: Instant,
    /// The stage ends then.
    pub(super) until: Instant,
    generation: u64,
    stage: Stage,
    /// What a commit will put in force.
    draft: Option<Box<Draft>>,
    /// Whose answer is waited for.
    waiting: Vec<Pid>,
    /// Workers that are to commit once the syncer has.
    next: Vec<(Role, Pid)>,
    /// Workers that are live in the new generation.
    live: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The syncer prepares: names, first answers of new upstreams.
    Syncer,
    /// The workers build their settings.
    Workers,
    /// The new settings are in force; before, so many workers were configured.
    Commit { before: usize },
}

/// Everything that a commit needs.
struct Draft {
    next: Cycle,
    added: Added,
    /// The configuration's text, sealed.
    text: File,
    /// A region that takes the place of the one there is.
    region: Option<NextRegion>,
}

impl Draft {
    /// Takes away what is made and will not be used.
    fn abandon(self) {
        self.added.abandon();
        if let Some(region) = self.region {
            region.remove();
        }
    }
}

impl Master {
    pub(super) fn reconfigure(&mut self) {
        let started = Instant::now();
        self.log.notice("reconfiguring");
        self.tell_reloading();
        self.last_generation += 1;
        let generation = self.last_generation;
        let draft = match self.draft(generation) {
            Ok(draft) => draft,
            Err(message) => return self.tell_refusal(&message),
        };
        let Some(syncer) = self.syncer.staying() else {
            draft.abandon();
            return self.tell_refusal("there is no syncer process at the moment");
        };
        let pid = syncer.pid;
        let sent = prepare(syncer, &draft, &[], &draft.next.private);
        let until = started + draft.next.settings.start_timeout + SYNCER_MARGIN;
        self.reload = Some(Reload {
            started,
            until,
            generation,
            stage: Stage::Syncer,
            draft: Some(Box::new(draft)),
            waiting: vec![pid],
            next: Vec::new(),
            live: 0,
        });
        if let Err(error) = sent {
            self.refuse(&format!(
                "sendmsg() to syncer process {pid} failed {}",
                describe(&error)
            ));
        }
    }

    /// Reads, checks and opens what the master can by itself.
    fn draft(&self, generation: u64) -> Result<Draft, String> {
        let mut loaded = (self.program.load)()?;
        tell_warnings(&loaded, &self.log);
        for name in pin(&self.cycle.settings, &mut loaded.settings) {
            self.log.warn(format_args!(
                "\"{name}\" cannot change without a restart, the old value stays in force"
            ));
        }
        check::dumps(&loaded.settings)?;
        temp::make(&loaded.settings.temp_folders, loaded.settings.user.as_ref())?;
        temp::make_for(
            loaded.settings.state.as_deref(),
            loaded.settings.user.as_ref(),
        )?;
        let files = resources::open(&loaded.settings.resources)?;
        let private = PrivateFiles::open(&loaded.settings)?;
        let text = sealed(&loaded.text)
            .map_err(|error| format!("memfd_create() failed {}", describe(&error)))?;
        let added = self.listening.prepare(&loaded.settings.listeners)?;
        // The last, so that nothing can fail that would have to take it away again.
        let region = match self.draft_region(&mut loaded.settings) {
            Ok(region) => region,
            Err(message) => {
                added.abandon();
                return Err(message);
            }
        };
        Ok(Draft {
            next: Cycle::new(generation, loaded, files, private),
            added,
            text,
            region,
        })
    }

    pub(super) fn prepared(&mut self, pid: Pid, generation: u64) {
        if let Some(reload) = &mut self.reload
            && reload.generation == generation
        {
            reload.waiting.retain(|&each| each != pid);
        }
    }

    pub(super) fn refused_by(&mut self, role: Role, pid: Pid, generation: u64, message: &str) {
        let Some(reload) = &self.reload else { return };
        if reload.generation != generation {
            return;
        }
        if matches!(reload.stage, Stage::Commit { .. }) {
            let name = role.name();
            self.log.alert(format_args!(
                "{name} {pid} refused what it had prepared: {message}"
            ));
            return self.give_up(role);
        }
        self.refuse(message);
    }

    /// An order did not arrive whole. If it was the one to prepare, nothing can be committed; of
    /// sockets or logs, there are some now that the child does not have.
    pub(super) fn unread(&mut self, role: Role, pid: Pid, order: Option<&Order>, message: &str) {
        let name = role.name();
        let message = format!("{name} {pid} could not read its orders: {message}");
        match order {
            Some(&Order::Prepare { generation, .. }) => {
                let prepares = |reload: &Reload| {
                    reload.generation == generation && !matches!(reload.stage, Stage::Commit { .. })
                };
                if self.reload.as_ref().is_some_and(prepares) {
                    self.refuse(&message);
                }
            }
            Some(Order::Help { .. }) => {
                self.log.alert(message);
                self.help_later(role);
            }
            _ => {
                self.log.alert(message);
                self.give_up(role);
            }
        }
    }

    /// Nobody waits any more for the answer of a process that is to be replaced.
    pub(super) fn forget_in_reload(&mut self, pid: Pid) {
        if let Some(reload) = &mut self.reload {
            reload.waiting.retain(|&each| each != pid);
        }
    }

    pub(super) fn committed(&mut self, role: Role, pid: Pid, generation: u64) {
        let logs = Rc::clone(&self.cycle.logs);
        if let Some(child) = self.seat(role).child.as_mut()
            && generation == logs.generation
        {
            child.logs = logs;
        }
        if let Some(reload) = &mut self.reload
            && reload.generation == generation
        {
            reload.waiting.retain(|&each| each != pid);
            reload.live += usize::from(role != Role::Syncer);
        }
    }

    /// A child died: one that prepares takes the reload with it if it is the syncer; a worker's
    /// successor is asked in its place.
    pub(super) fn lost_in_reload(&mut self, role: Role, pid: Pid) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        reload.waiting.retain(|&each| each != pid);
        if role == Role::Syncer && !matches!(reload.stage, Stage::Commit { .. }) {
            self.refuse(&format!("syncer process {pid} died"));
        }
    }

    /// A worker that starts while others prepare began with the old settings, one that starts
    /// while they commit with the new ones: it is live when it is ready.
    pub(super) fn born_in_reload(&mut self, role: Role, pid: Pid) {
        match &mut self.reload {
            Some(reload) if reload.stage == Stage::Workers => self.ask(role),
            Some(Reload {
                stage: Stage::Commit { .. },
                waiting,
                ..
            }) if role != Role::Syncer => waiting.push(pid),
            _ => {}
        }
    }

    pub(super) fn ready_in_reload(&mut self, role: Role, pid: Pid) {
        if let Some(Reload {
            stage: Stage::Commit { .. },
            generation,
            ..
        }) = self.reload
        {
            self.committed(role, pid, generation);
        }
    }

    /// Goes on for as long as nobody has to be waited for.
    pub(super) fn tick_reload(&mut self, now: Instant) {
        while self.step_reload(now) {}
    }

    /// Takes the next step when everybody has answered or the time is over; false if not.
    fn step_reload(&mut self, now: Instant) -> bool {
        // A successor that starts at once is asked in its predecessor's place.
        if self.due(now).is_some() {
            return false;
        }
        let Some(reload) = &mut self.reload else {
            return false;
        };
        if reload.waiting.is_empty() {
            match reload.stage {
                Stage::Syncer => self.ask_workers(now),
                Stage::Workers => self.commit(now),
                Stage::Commit { .. } if !reload.next.is_empty() => self.order_workers_commit(now),
                Stage::Commit { .. } => self.finish_reload(now),
            }
            return true;
        }
        if now < reload.until {
            return false;
        }
        let waiting = reload.waiting.clone();
        let late: Vec<String> = waiting.iter().map(ToString::to_string).collect();
        let late = late.join(", ");
        if matches!(reload.stage, Stage::Commit { .. }) {
            self.log.alert(format_args!(
                "no answer to the commit from {late}, to be replaced"
            ));
            self.give_up_silent(&waiting);
            return true;
        }
        self.refuse(&format!("no answer from {late} in time"));
        true
    }

    fn ask_workers(&mut self, now: Instant) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        reload.stage = Stage::Workers;
        reload.until = now + WORKERS_BOUND;
        for role in self.staying() {
            self.ask(role);
        }
    }

    /// Asks one worker to prepare.
    fn ask(&mut self, role: Role) {
        let Role::Worker(slot) = role else { return };
        let seat = &self.workers[slot];
        let Some(reload) = &mut self.reload else {
            return;
        };
        let (Some(draft), Some(child)) = (&reload.draft, seat.staying()) else {
            return;
        };
        let pid = child.pid;
        let listeners = draft.added.of_sets(&seat.sets);
        let sent = prepare(child, draft, &listeners, &PrivateFiles::default());
        reload.waiting.push(pid);
        if let Err(error) = sent {
            self.refuse(&format!(
                "sendmsg() to worker process {pid} failed {}",
                describe(&error)
            ));
        }
    }

    fn commit(&mut self, now: Instant) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        let Some(draft) = reload.draft.take() else {
            return;
        };
        let listeners = &draft.next.settings.listeners;
        let ready = self
            .listening
            .listen_added(&draft.added, listeners)
            .and_then(|()| {
                Log::open(&draft.next.settings, &draft.next.files, false)
                    .map_err(|error| format!("dup() failed {}", describe(&error)))
            });
        let log = match ready {
            Ok(log) => log,
            Err(message) => {
                reload.draft = Some(draft);
                return self.refuse(&message);
            }
        };
        reload.stage = Stage::Commit {
            before: workers_of(&self.cycle.settings),
        };
        reload.until = now + WORKERS_BOUND;
        self.change_form(&draft.next.settings, draft.region.is_some());
        self.next_region = draft.region;
        self.cycle = draft.next;
        self.put_log_in_force(log);
        self.listening
            .commit(&self.cycle.settings.listeners, draft.added);
        match self.listening.listen() {
            Ok(ignored) => ignored.iter().for_each(|line| self.log.alert(line)),
            // Only a backlog can be at fault now; the sockets listen already.
            Err(message) => self.log.alert(message),
        }
        self.listening_version += 1;
        self.order_commits();
        if self.retired {
            self.restore();
        }
    }

    /// The syncer first: upstreams that come, and those whose names only come free with the new
    /// settings, are in the table when the first worker has these.
    fn order_commits(&mut self) {
        let mut next = Vec::new();
        for role in self.staying() {
            if let Some(child) = self.seat(role).staying().filter(|_| role != Role::Syncer) {
                next.push((role, child.pid));
            }
        }
        if let Some(reload) = &mut self.reload {
            reload.next = next;
        }
        self.order_commit(Role::Syncer);
    }

    /// The syncer is done.
    fn order_workers_commit(&mut self, now: Instant) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        reload.until = now + WORKERS_BOUND;
        for (role, pid) in std::mem::take(&mut reload.next) {
            // A successor has begun with the new settings.
            let child = self.seat(role).staying();
            if child.is_some_and(|child| child.pid == pid) {
                self.order_commit(role);
            }
        }
    }

    fn order_commit(&mut self, role: Role) {
        let Some(generation) = self.reload.as_ref().map(|reload| reload.generation) else {
            return;
        };
        let Some(child) = self.seat(role).staying() else {
            return;
        };
        let pid = child.pid;
        let sent = child.channel.send(&Order::Commit { generation }, &[]);
        if let Some(reload) = &mut self.reload {
            reload.waiting.push(pid);
        }
        if let Err(error) = sent {
            let (name, error) = (role.name(), describe(&error));
            self.log
                .alert(format_args!("sendmsg() to {name} {pid} failed {error}"));
            self.give_up(role);
        }
    }

    fn finish_reload(&mut self, now: Instant) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        let Stage::Commit { before } = reload.stage else {
            return;
        };
        self.trouble = None;
        let (generation, live) = (reload.generation, reload.live);
        let millis = now.saturating_duration_since(reload.started).as_millis();
        self.log.notice(format_args!(
            "reconfigured: config generation {generation} live in {live} workers in {millis} ms"
        ));
        // There may be room for more workers in the region that comes.
        if self.next_region.is_none() {
            self.resize(before);
        }
    }

    /// Ends a reload before its commit.
    fn refuse(&mut self, message: &str) {
        self.abandon_reload();
        self.tell_refusal(message);
    }

    /// Forgets a reload that has not been committed, here and in the children.
    pub(super) fn abandon_reload(&mut self) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        let generation = reload.generation;
        let asked = match reload.stage {
            Stage::Commit { .. } => return,
            Stage::Syncer => vec![Role::Syncer],
            Stage::Workers => self.staying(),
        };
        for role in asked {
            if let Some(child) = self.seat(role).staying() {
                // One that cannot be told forgets at the next order to prepare.
                let _ = child.channel.send(&Order::Abort { generation }, &[]);
            }
        }
        if let Some(draft) = reload.draft {
            draft.abandon();
        }
    }

    fn tell_refusal(&mut self, message: &str) {
        self.trouble = Some(format!("reload refused: {message}"));
        // Unknown directives are listed one a line.
        for line in message.lines() {
            self.log.emerg(line);
        }
        let generation = self.cycle.generation;
        self.log.notice(format_args!(
            "reconfiguring refused: config generation {generation} stays in force"
        ));
    }
}

/// Sends the order to prepare with the text, all resources, `listeners` and `private` files.
fn prepare(
    child: &Child,
    draft: &Draft,
    listeners: &[&(Address, Socket)],
    private: &PrivateFiles,
) -> io::Result<()> {
    // Opened anew, so that no two children share a position in it.
    let text = File::open(format!("/proc/self/fd/{}", draft.text.as_raw_fd()))?;
    let mut passed = vec![(Passed::Text, text.as_fd())];
    let files = draft.next.files.iter().enumerate();
    passed.extend(files.map(|(id, file)| (Passed::Resource(id), file.as_fd())));
    let private = private.files().enumerate();
    passed.extend(private.map(|(id, file)| (Passed::Private(id), file.as_fd())));
    let listeners = listeners.iter();
    passed.extend(
        listeners.map(|(address, socket)| (Passed::Listener(address.to_string()), socket.as_fd())),
    );
    let generation = draft.next.generation;
    orders::send(&child.channel, &passed, |descriptors, more| {
        Order::Prepare {
            generation,
            descriptors,
            more,
        }
    })
}

fn sealed(text: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("weir-configuration", flags)?);
    file.write_all(text.as_bytes())?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}
