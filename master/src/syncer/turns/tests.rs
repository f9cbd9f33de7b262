use super::*;
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const FULL: Duration = Duration::from_secs(10);
const SOURCE: Failure = Failure::Source {
    crowded: false,
    turned_away: false,
    retry_after: None,
};

/// A source with watches, and time that goes on from event to event.
struct World {
    turns: Turns,
    now: Duration,
    /// When each request under way ends.
    under_way: BTreeSet<(Duration, WatchId)>,
    /// When the last request of each ended.
    ended: HashMap<WatchId, Duration>,
    /// The longest that one was left alone.
    gap: Duration,
    requests: usize,
    most: usize,
    /// Whether requests fail, and after how long.
    down: Option<Duration>,
    random: u64,
}

impl World {
    fn new(steady: u64, others: u64) -> World {
        let mut turns = Turns::default();
        for id in 0..steady + others {
            turns.add(id, id < steady, Duration::ZERO);
        }
        World {
            turns,
            now: Duration::ZERO,
            under_way: BTreeSet::new(),
            ended: HashMap::new(),
            gap: Duration::ZERO,
            requests: 0,
            most: 0,
            down: None,
            random: 7,
        }
    }

    fn random(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.random >> 33
    }

    fn run(&mut self, until: Duration) {
        loop {
            let next = self.turns.next(self.now);
            if let Next::Ask(id, wait) = next {
                self.ask(id, wait);
                continue;
            }
            let mut then = until;
            if let Next::At(at) = next {
                then = then.min(at);
            }
            let over = self
                .under_way
                .first()
                .copied()
                .filter(|(at, _)| *at <= then);
            if let Some((at, id)) = over {
                self.under_way.pop_first();
                self.now = at;
                self.over(id);
            } else if then < until {
                self.now = then;
            } else {
                self.now = until;
                return;
            }
        }
    }

    fn ask(&mut self, id: WatchId, wait: Option<Duration>) {
        self.requests += 1;
        let before = self.ended.get(&id).copied().unwrap_or_default();
        self.gap = self.gap.max(self.now - before);
        let wait = wait.unwrap_or(FULL);
        let jitter = wait / 16 / 100 * u32::try_from(self.random() % 100).unwrap();
        let took = self.down.unwrap_or(wait + jitter + MS);
        self.under_way.insert((self.now + took, id));
        self.most = self.most.max(self.under_way.len());
        assert_eq!(self.under_way.len(), self.turns.asking());
    }

    fn over(&mut self, id: WatchId) {
        self.ended.insert(id, self.now);
        let random = self.random();
        match self.down {
            None => self.turns.answered(id, self.now, Duration::ZERO),
            Some(_) => self.turns.failed(id, self.now, SOURCE, random),
        }
    }

    /// Every request under way ends, as when the source is killed.
    fn kill(&mut self, took: Duration) {
        self.down = Some(took);
        for (_, id) in std::mem::take(&mut self.under_way) {
            self.over(id);
        }
    }
}

#[test]
fn as_many_as_there_are_places_keep_their_own() {
    let mut world = World::new(0, PLACES as u64);
    world.run(5 * FULL);
    assert_eq!(world.most, PLACES);
    assert!(world.gap < MS, "{:?}", world.gap);
    // Four full waits each.
    assert!(world.requests <= PLACES * 5, "{}", world.requests);
    // The negative control: one more, and they take turns.
    let mut world = World::new(0, PLACES as u64 + 1);
    world.run(5 * FULL);
    assert!(world.gap > MS && world.requests > PLACES * 10);
}

#[test]
fn a_steady_watch_keeps_its_place_while_others_take_turns() {
    let mut world = World::new(3, 1000);
    world.run(2 * FULL);
    let mut waits = HashMap::new();
    for _ in 0..2000 {
        match world.turns.next(world.now) {
            Next::Ask(id, wait) => drop(waits.insert(id, wait)),
            _ => {
                let (at, id) = world.under_way.pop_first().unwrap();
                world.now = at;
                world.over(id);
                continue;
            }
        }
        let id = *waits.keys().next().unwrap();
        let wait = waits.remove(&id).unwrap();
        assert_eq!(wait.is_none(), id < 3, "{id}");
        world.ask(id, wait);
    }
    // Nobody starves when all are steady.
    let mut world = World::new(300, 0);
    world.run(3 * FULL);
    assert!(world.gap < ROUND * 5 / 4 && world.most <= PLACES);
}

#[test]
fn a_source_that_is_away_gets_few_requests_and_is_found_again_soon() {
    for others in [1, 5, 128, 300, 1000] {
        let mut world = World::new(0, others);
        world.run(FULL * 3 / 2);
        world.kill(MS);
        world.run(world.now + Duration::from_secs(1));
        // Each has found out for itself by now.
        let before = world.requests;
        world.run(world.now + FULL);
        let asked = world.requests - before;
        assert!((40..110).contains(&asked), "{others}: {asked}");
        world.down = None;
        let back = world.now;
        let asked = world.requests;
        world.run(back + 250 * MS);
        let expected = (others as usize).min(PLACES);
        assert!(world.requests - asked >= expected, "{others}");
    }
}

#[test]
fn one_that_hangs_keeps_no_other_waiting() {
    let mut world = World::new(0, 2);
    world.run(MS);
    world.kill(FULL);
    world.run(world.now + MS * 500);
    assert_eq!(
        world.under_way.len(),
        2,
        "both are tried, although neither is answered"
    );
}

#[test]
fn a_watch_that_fails_alone_holds_up_nobody() {
    let mut turns = Turns::default();
    for id in 0..3 {
        turns.add(id, false, Duration::ZERO);
    }
    let mut now = Duration::ZERO;
    let mut bad = 0;
    let mut good = 0;
    while now < Duration::from_secs(10) {
        match turns.next(now) {
            Next::Ask(0, _) => {
                bad += 1;
                turns.failed(0, now, SOURCE, 0);
            }
            Next::Ask(id, _) => {
                good += 1;
                turns.answered(id, now, 10 * MS);
            }
            Next::At(at) => now = at,
            Next::Nothing => unreachable!(),
        }
    }
    assert_eq!(good, 2 * 1000);
    assert!((45..60).contains(&bad), "{bad}");
}

#[test]
fn watches_that_are_refused_share_a_rate_and_are_let_in_together() {
    const DELAY: Duration = Duration::from_secs(1);
    for count in [1u64, 20, 1000] {
        let mut turns = Turns::default();
        for id in 0..count {
            turns.add(id, false, Duration::ZERO);
        }
        let (mut now, mut asked) = (Duration::ZERO, 0u64);
        while now < 40 * DELAY {
            match turns.next(now) {
                Next::Ask(id, _) => {
                    asked += u64::from(now >= 20 * DELAY);
                    turns.failed(id, now, Failure::Own(DELAY), 0);
                }
                Next::At(at) => now = at,
                Next::Nothing => unreachable!(),
            }
        }
        let most = if count == 1000 { 100 } else { count };
        assert!((15 * most..=21 * most).contains(&asked), "{count}: {asked}");

        // The token may read again: all find out as soon as one has.
        now += 11 * DELAY;
        let Next::Ask(first, _) = turns.next(now) else {
            panic!("nobody is asked");
        };
        turns.answered(first, now, FULL);
        for _ in 1..count {
            let Next::Ask(id, _) = turns.next(now) else {
                panic!("one of {count} has to wait");
            };
            turns.answered(id, now, FULL);
        }
        assert_eq!((turns.refused, turns.next(now)), (0, Next::At(now + FULL)));
    }
}

#[test]
fn what_the_source_asks_for_is_heeded_within_reason() {
    let asks = |seconds| Failure::Source {
        crowded: true,
        turned_away: false,
        retry_after: Some(Duration::from_secs(seconds)),
    };
    for (seconds, expected) in [(2, 2), (3600, 30)] {
        let mut turns = Turns::default();
        turns.add(1, false, Duration::ZERO);
        assert_eq!(turns.next(Duration::ZERO), Next::Ask(1, None));
        turns.failed(1, MS, asks(seconds), 0);
        let Next::At(at) = turns.next(MS) else {
            panic!("asked at once");
        };
        let at = at.as_millis();
        assert!(
            (expected * 1000..expected * 1000 + 20).contains(&at),
            "{at}"
        );
    }
}

#[test]
fn a_crowded_source_gets_fewer_places_and_gets_them_back() {
    let mut turns = Turns::default();
    for id in 0..100 {
        turns.add(id, false, Duration::ZERO);
    }
    for _ in 0..100 {
        assert!(matches!(turns.next(Duration::ZERO), Next::Ask(_, None)));
    }
    assert_eq!(turns.room(), None);
    let crowded = Failure::Source {
        crowded: true,
        turned_away: false,
        retry_after: None,
    };
    for id in 60..100 {
        turns.failed(id, MS, crowded, 0);
    }
    assert_eq!((turns.asking(), turns.room()), (60, Some(60)));
    assert_eq!(
        turns.next(2 * MS),
        Next::Nothing,
        "sixty are all that there is room for"
    );
    turns.answered(3, FULL, Duration::ZERO);
    let Next::Ask(_, wait) = turns.next(FULL) else {
        panic!("nobody is asked");
    };
    assert!(wait.is_some_and(|wait| wait < ROUND));
    let mut now = FULL;
    while turns.places < PLACES {
        now += GROWTH;
        turns.next(now);
    }
    assert!(now > GROWTH * 60);
    assert_eq!(turns.room(), None, "it is as if it had never been crowded");
}

#[test]
fn a_place_too_many_is_tried_less_and_less_often() {
    let mut turns = Turns::default();
    for id in 0..30 {
        turns.add(id, false, Duration::ZERO);
        assert!(matches!(turns.next(Duration::ZERO), Next::Ask(..)));
    }
    let crowded = Failure::Source {
        crowded: true,
        turned_away: false,
        retry_after: None,
    };
    (20..30).for_each(|id| turns.failed(id, MS, crowded, 0));
    let mut now = MS;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let began = now;
        let id = loop {
            match turns.next(now) {
                Next::Ask(id, _) => break id,
                _ => now += GROWTH / 50,
            }
        };
        pauses.push((now - began).as_secs());
        turns.failed(id, now, crowded, 0);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 320, 320]);
    while turns.places < 40 {
        now += GROWTH;
        turns.next(now);
    }
    assert_eq!(turns.growth, GROWTH, "there is room again");
}

#[test]
fn a_source_that_turns_away_one_more_while_others_stay_is_crowded() {
    let away = Failure::Source {
        crowded: false,
        turned_away: true,
        retry_after: None,
    };
    let places = |failure: Failure, others: bool, after: Duration| {
        let mut turns = Turns::default();
        for id in 0..40 {
            turns.add(id, false, Duration::ZERO);
            assert!(matches!(turns.next(Duration::ZERO), Next::Ask(..)));
        }
        let mut now = after;
        for id in if others { 20..40 } else { 0..40 } {
            turns.failed(id, now, failure, 0);
        }
        assert_eq!(turns.places, PLACES, "what broke at once is one failure");
        for _ in 1..TURNED_AWAY {
            assert_eq!(turns.places, PLACES);
            now += FAULT_MAX;
            let Next::Ask(id, _) = turns.next(now) else {
                panic!("nobody is asked");
            };
            now += after;
            turns.failed(id, now, failure, 0);
        }
        turns.places
    };
    assert_eq!(places(away, true, MS), 20);
    for (failure, others, after) in [(SOURCE, true, MS), (away, false, MS), (away, true, AT_ONCE)] {
        assert_eq!(places(failure, others, after), PLACES);
    }
}

#[test]
fn its_own_failures_and_wakes_move_a_watch_alone() {
    let mut turns = Turns::default();
    turns.add(1, false, Duration::ZERO);
    assert_eq!(turns.next(Duration::ZERO), Next::Ask(1, None));
    turns.failed(1, MS, Failure::Own(FULL), 0);
    turns.add(2, false, MS);
    assert_eq!(turns.next(MS), Next::Ask(2, None));
    assert_eq!(turns.next(MS), Next::At(FULL + MS));
    turns.wake(1, 2 * MS);
    assert_eq!(turns.next(2 * MS), Next::Ask(1, None));
    turns.wake(1, 3 * MS);
    turns.remove(2);
    turns.remove(1);
    turns.answered(1, 3 * MS, Duration::ZERO);
    turns.failed(2, 3 * MS, SOURCE, 0);
    assert_eq!((turns.asking(), turns.next(FULL)), (0, Next::Nothing));
    assert!(turns.members.is_empty() && turns.ready.is_empty() && turns.stranded.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn each_is_asked_in_time_and_places_are_kept(steady in 0u64..20, others in 0u64..1500, seed in any::<u64>()) {
        let mut world = World::new(steady, others);
        world.random = seed;
        world.run(FULL * 2);
        prop_assert!(world.most <= PLACES);
        // The first round starts late for the last of them; a wait may be a sixteenth longer.
        prop_assert!(world.gap <= ROUND * 5 / 4, "{:?}", world.gap);
    }

    #[test]
    fn no_order_of_events_loses_a_watch(
        events in proptest::collection::vec((0u8..7, 0u64..6, any::<u64>()), 1..200)
    ) {
        let mut turns = Turns::default();
        let mut known = BTreeSet::new();
        let mut asking = BTreeSet::new();
        let mut now = Duration::ZERO;
        for (event, id, random) in events {
            now += MS * u32::try_from(random % 50).unwrap();
            match event {
                0 => if !asking.contains(&id) && known.insert(id) { turns.add(id, random % 3 == 0, now); },
                1 => { known.remove(&id); turns.remove(id); }
                2 => if asking.remove(&id) { turns.answered(id, now, MS * 5); },
                3 => if asking.remove(&id) { turns.failed(id, now, SOURCE, random); },
                4 => turns.wake(id, now),
                5 => if asking.remove(&id) { turns.failed(id, now, Failure::Own(MS), random); },
                _ => if let Next::Ask(id, _) = turns.next(now) {
                    prop_assert!(known.contains(&id) && asking.insert(id));
                },
            }
            prop_assert_eq!(turns.asking(), asking.len());
            let refused = turns.members.values().filter(|member| member.is_refused).count();
            prop_assert_eq!(turns.refused, refused);
        }
        for id in asking {
            turns.failed(id, now, SOURCE, 1);
        }
        now += FULL;
        let mut asked = BTreeSet::new();
        while let Next::Ask(id, _) = turns.next(now) {
            asked.insert(id);
            now += FULL;
        }
        prop_assert_eq!(asked, known);
    }
}
