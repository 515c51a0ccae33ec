//! Counters that are lost come back from the rows, and whatever happens meanwhile, each generation is counted once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tollgate::limits::store::{Observed, Told, first_id};
use tollgate::limits::{Books, Count, StoreError};

use super::*;

/// When lost books of most laws are cut.
const CUT: u64 = 1_000_000;

/// An id from before or after the cut.
fn made(milliseconds: u64) -> Uuid {
    let random = Uuid::new_v4().as_u128() & ((1 << 80) - 1);
    Uuid::from_u128(first_id(milliseconds).as_u128() | random)
}

fn books() -> Books {
    Books::Org(ORG.into())
}

async fn begin(store: &dyn Store, books: &Books) -> Count {
    store.begin_count(books, CUT).await.expect("the store answers")
}

/// Counts these rows of the org.
async fn count(store: &dyn Store, used: &[(Bucket, u64)]) {
    let count = begin(store, &books()).await;
    store.count(&books(), &count, used).await.expect("the store answers");
}

async fn is_lost(store: &dyn Store, bucket: &Bucket) -> bool {
    let wanted = [charge(bucket.clone(), 100, 1)];
    let id = fresh();
    let reserved = store.reserve(&wish(id, &wanted)).await;
    let peeked = store.peek(std::slice::from_ref(bucket)).await;
    let settled = store.settle(ORG, fresh(), &[settled(bucket, 0)]).await;
    let lost = |error: Option<StoreError>| matches!(error, Some(StoreError::Lost(of)) if of == bucket.scope.books());
    let answers = [lost(reserved.err()), lost(peeked.err()), lost(settled.err())];
    assert!(answers.iter().all(|is| *is == answers[0]), "deciding, looking and settling should agree: {answers:?}");
    store.release(ORG, id).await.expect("the store answers");
    answers[0]
}

pub(super) async fn what_was_never_counted_is_lost_book_by_book(store: AnyStore) {
    let [ann, acme, everyone] = [member_scope("ann"), org_scope(ORG), Scope::Everyone].map(tokens);
    for bucket in [&ann, &acme, &everyone] {
        assert!(is_lost(&*store, bucket).await);
    }
    let first = begin(&*store, &books()).await;
    assert!(first.is_lost && first.cut == CUT, "{first:?}");
    assert!(is_lost(&*store, &ann).await, "it is lost until the count ends");
    store.count(&books(), &first, &[(ann.clone(), 70)]).await.expect("the store answers");
    assert!(!is_lost(&*store, &ann).await && !is_lost(&*store, &acme).await, "an org's and its members' are one book");
    assert!(is_lost(&*store, &everyone).await, "everyone's is another");
    assert_eq!(level(&*store, &ann).await, used_held(70, 0));
    let both = [charge(ann, 100, 10), charge(everyone.clone(), 100, 10)];
    let both = wish(fresh(), &both);
    let why = store.reserve(&both).await.expect_err("everyone's are lost");
    assert!(matches!(why, StoreError::Lost(Books::Everyone)), "{why}");
    let everyones = begin(&*store, &Books::Everyone).await;
    store.count(&Books::Everyone, &everyones, &[]).await.expect("the store answers");
    admit(&*store, &both).await;
    assert_eq!(level(&*store, &everyone).await, used_held(0, 10), "asked again after that, it fits");
}

pub(super) async fn a_restored_counter_limits(store: AnyStore) {
    let ann = tokens(member_scope("ann"));
    count(&*store, &[(ann.clone(), 95)]).await;
    let refusal = refuse(&*store, &wish(made(CUT + 1), &[charge(ann.clone(), 100, 6)])).await;
    assert_eq!((refusal.used, refusal.held), (95, 0));
    admit(&*store, &wish(made(CUT + 1), &[charge(ann, 100, 5)])).await;
}

pub(super) async fn ids_before_the_cut_are_counted_by_rows_and_others_by_settling(store: AnyStore) {
    let (ann, everyone) = (tokens(member_scope("ann")), tokens(Scope::Everyone));
    for books in [books(), Books::Everyone] {
        let begun = begin(&*store, &books).await;
        store.count(&books, &begun, &[]).await.expect("the store answers");
    }
    let (before, after) = (made(CUT - 1), made(CUT));
    let charges = [charge(ann.clone(), 1000, 10), charge(everyone.clone(), 1000, 10)];
    admit(&*store, &wish(before, &charges)).await;
    admit(&*store, &wish(after, &charges)).await;
    let actual = [settled(&ann, 7), settled(&everyone, 7)];
    assert!(store.settle(ORG, after, &actual).await.expect("the store answers"));
    let why = store.settle(ORG, before, &actual).await.expect_err("its rows count it");
    assert!(matches!(why, StoreError::CountedByRows), "{why}");
    assert_eq!(level(&*store, &ann).await, used_held(7, 10), "nothing was done");
    for (books, bucket) in [(books(), &ann), (Books::Everyone, &everyone)] {
        let begun = begin(&*store, &books).await;
        assert!(!begun.is_lost && begun.cut == CUT, "{begun:?}");
        store.count(&books, &begun, &[(bucket.clone(), 7)]).await.expect("the store answers");
        assert_eq!(level(&*store, bucket).await, used_held(14, 10), "held until it is given back");
    }
    for is_first in [true, false] {
        assert_eq!(store.settle_counted(ORG, before, &actual).await.expect("the store answers"), is_first);
        assert!(!store.settle(ORG, before, &actual).await.expect("the store answers"), "it is settled");
        assert_eq!(level(&*store, &ann).await, used_held(14, 0));
        assert_eq!(level(&*store, &everyone).await, used_held(14, 0));
        assert_eq!(observe(&*store, &ann).await.used, [Some(14)]);
    }
}

pub(super) async fn a_later_count_stands_against_an_earlier_one(store: AnyStore) {
    let ann = tokens(member_scope("ann"));
    let (early, late) = (begin(&*store, &books()).await, begin(&*store, &books()).await);
    assert_eq!(early.cut, late.cut, "both count up to the same cut");
    store.count(&books(), &late, &[(ann.clone(), 30)]).await.expect("the store answers");
    store.count(&books(), &early, &[(ann.clone(), 20)]).await.expect("the store answers");
    assert_eq!(level(&*store, &ann).await, used_held(30, 0));
    store.settle(ORG, made(CUT), &[settled(&ann, 5)]).await.expect("the store answers");
    count(&*store, &[(ann.clone(), 25)]).await;
    assert_eq!(level(&*store, &ann).await, used_held(30, 0), "a correction may lower what rows say; what was settled stays");
}

pub(super) async fn what_adds_to_no_counter_needs_none(store: AnyStore) {
    let id = made(CUT - 1);
    admit(&*store, &wish(id, &[])).await;
    assert!(store.settle(ORG, id, &[]).await.expect("the store answers"));
    assert!(!store.settle(ORG, id, &[]).await.expect("the store answers"));
}

async fn observe(store: &dyn Store, bucket: &Bucket) -> Observed {
    store.observe(&bucket.scope.books(), std::slice::from_ref(bucket)).await.expect("the store answers")
}

pub(super) async fn the_cut_moves_only_where_nothing_does(store: AnyStore) {
    let ann = tokens(member_scope("ann"));
    let why = store.observe(&books(), &[]).await.expect_err("what is lost cannot be observed");
    assert!(matches!(why, StoreError::Lost(_)), "{why}");
    count(&*store, &[(ann.clone(), 30)]).await;
    let fresh = observe(&*store, &ann).await;
    assert_eq!(fresh, Observed { cut: CUT, settled: 0, open: 0, used: vec![None] }, "nothing was settled to it");
    let (one, other) = (made(CUT), made(CUT));
    admit(&*store, &wish(one, &[charge(ann.clone(), 1000, 10)])).await;
    assert_eq!(observe(&*store, &ann).await.open, 1);
    assert!(!store.move_cut(&books(), &fresh, CUT + 10).await.expect("the store answers"), "something is open");
    store.settle(ORG, one, &[settled(&ann, 7)]).await.expect("the store answers");
    assert!(!store.move_cut(&books(), &fresh, CUT + 10).await.expect("the store answers"), "something was settled meanwhile");
    let still = observe(&*store, &ann).await;
    assert_eq!(still, Observed { cut: CUT, settled: 1, open: 0, used: vec![Some(37)] });
    let begun = begin(&*store, &books()).await;
    assert!(store.move_cut(&books(), &still, CUT + 10).await.expect("the store answers"));
    assert!(!store.move_cut(&books(), &still, CUT + 20).await.expect("the store answers"), "it was moved meanwhile");
    assert!(!store.count(&books(), &begun, &[(ann.clone(), 1)]).await.expect("the store answers"), "that counts up to another cut");
    assert_eq!(observe(&*store, &ann).await.used, [None]);
    let why = store.settle(ORG, other, &[settled(&ann, 1)]).await.expect_err("its rows count it now");
    assert!(matches!(why, StoreError::CountedByRows), "{why}");
}

pub(super) async fn rows_replace_what_was_settled_before_the_cut_moved(store: AnyStore) {
    let (ann, bob) = (tokens(member_scope("ann")), tokens(member_scope("bob")));
    count(&*store, &[(ann.clone(), 30)]).await;
    for bucket in [&ann, &bob] {
        store.settle(ORG, made(CUT), &[settled(bucket, 7)]).await.expect("the store answers");
    }
    let observed = observe(&*store, &ann).await;
    assert!(store.move_cut(&books(), &observed, CUT + 10).await.expect("the store answers"));
    assert_eq!((level(&*store, &ann).await, level(&*store, &bob).await), (used_held(37, 0), used_held(7, 0)), "all is as it was");
    store.settle(ORG, made(CUT + 10), &[settled(&bob, 2)]).await.expect("the store answers");
    for _ in 0..2 {
        count(&*store, &[(ann.clone(), 41), (bob.clone(), 8)]).await;
        assert_eq!((level(&*store, &ann).await, level(&*store, &bob).await), (used_held(41, 0), used_held(10, 0)));
        assert_eq!(observe(&*store, &bob).await.used, [Some(10)]);
    }
}

macro_rules! on_both_stores {
    ($($law:ident)*) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                super::$law(std::sync::Arc::new(super::MemoryStore::to_be_restored())).await;
            })*
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let server = super::RedisServer::start_cluster();
                super::$law(std::sync::Arc::new(super::RedisStore::to_be_restored(super::connection(&server)))).await;
            })*
        }
    };
}

on_both_stores! {
    what_was_never_counted_is_lost_book_by_book
    a_restored_counter_limits
    ids_before_the_cut_are_counted_by_rows_and_others_by_settling
    a_later_count_stands_against_an_earlier_one
    what_adds_to_no_counter_needs_none
    the_cut_moves_only_where_nothing_does
    rows_replace_what_was_settled_before_the_cut_moved
}

#[tokio::test]
async fn a_store_that_lost_everything_does_not_know_who_told() {
    const HOUR: u64 = 60 * 60 * 1000;
    let server = RedisServer::start();
    let store = RedisStore::to_be_restored(connection(&server));
    let tell = async |replica: &str, at: u64| store.tell_shipped(replica, at).await.expect("the store answers");
    assert_eq!(tell("a", HOUR).await, Told { by_all: HOUR, was_known: false });
    assert_eq!(tell("b", HOUR + 10).await, Told { by_all: HOUR, was_known: false });
    assert_eq!(tell("a", HOUR + 20).await, Told { by_all: HOUR + 10, was_known: true });
    assert_eq!(
        tell("a", 2 * HOUR + 10).await,
        Told { by_all: 2 * HOUR + 10, was_known: true },
        "nobody waits for who is silent for an hour"
    );
    server.command::<()>(&["FLUSHALL"]);
    assert_eq!(tell("a", 2 * HOUR + 20).await, Told { by_all: 2 * HOUR + 20, was_known: false });
}

#[tokio::test]
async fn a_thousand_members_are_restored() {
    let server = RedisServer::start();
    let store = RedisStore::to_be_restored(connection(&server));
    let used: Vec<_> = (1..=1000).map(|number| (tokens(member_scope(&format!("member-{number}"))), number)).collect();
    count(&store, &used).await;
    for (bucket, amount) in used.iter().step_by(97) {
        assert_eq!(level(&store, bucket).await, used_held(*amount, 0));
    }
}

/// What happens to the generations of one member, the store, and two replicas that count. Each has a journal.
#[derive(Debug, Clone)]
enum Event {
    Admit { amount: u64 },
    RowIsJournalled { of: prop::sample::Index },
    Settle { of: prop::sample::Index },
    JournalIsShipped { by: usize },
    StoreIsLost,
    Tell { by: usize },
    BeginCount { by: usize },
    ReadRows { by: usize },
    EndCount { by: usize },
    Look,
    Repair,
}

fn event() -> impl Strategy<Value = Event> {
    let of = any::<prop::sample::Index>;
    prop_oneof![
        6 => (1_u64..1000).prop_map(|amount| Event::Admit { amount }),
        6 => of().prop_map(|of| Event::RowIsJournalled { of }),
        6 => of().prop_map(|of| Event::Settle { of }),
        3 => (0_usize..2).prop_map(|by| Event::JournalIsShipped { by }),
        1 => Just(Event::StoreIsLost),
        2 => (0_usize..2).prop_map(|by| Event::Tell { by }),
        3 => (0_usize..2).prop_map(|by| Event::BeginCount { by }),
        3 => (0_usize..2).prop_map(|by| Event::ReadRows { by }),
        3 => (0_usize..2).prop_map(|by| Event::EndCount { by }),
        2 => Just(Event::Look),
        2 => Just(Event::Repair),
    ]
}

struct AnyGeneration {
    id: Uuid,
    amount: u64,
    /// Who settles it.
    owner: usize,
    is_settled: bool,
}

/// Everything but the store.
#[derive(Default)]
struct Place {
    now: u64,
    generations: Vec<AnyGeneration>,
    /// Rows that only a replica's journal has.
    journals: [BTreeMap<Uuid, u64>; 2],
    /// What the database has, by generation.
    rows: BTreeMap<Uuid, u64>,
    /// The counts that go on: how they began, and what they read.
    counts: [Option<(Count, Option<u64>)>; 2],
    /// Replicas that the store does not know any more.
    unknown: BTreeSet<usize>,
    /// How the books stood before every replica told what it had shipped.
    seen: Option<Observed>,
}

impl Place {
    fn journalled(&self, id: Uuid) -> bool {
        self.rows.contains_key(&id) || self.journals.iter().any(|journal| journal.contains_key(&id))
    }

    fn ship(&mut self, by: usize) {
        self.rows.append(&mut self.journals[by]);
    }

    /// What a count finds: it brings the journal of who counts to the database first.
    fn read(&mut self, by: usize, count: &Count) -> u64 {
        self.ship(by);
        self.rows.range(..first_id(count.cut)).map(|(_, amount)| amount).sum()
    }

    async fn begin(&self, store: &dyn Store) -> Count {
        // Clocks differ, but the cut lies after every id that was made.
        store.begin_count(&books(), self.now + 2).await.expect("the store answers")
    }

    async fn count_at_once(&mut self, by: usize, store: &dyn Store, bucket: &Bucket) {
        let count = self.begin(store).await;
        let read = self.read(by, &count);
        assert!(store.count(&books(), &count, &[(bucket.clone(), read)]).await.expect("the store answers"), "nobody moved the cut");
    }

    /// What a replica does that settles: its rows are journalled first; what is counted by rows is counted and given back.
    async fn settle(&mut self, store: &dyn Store, bucket: &Bucket, index: usize) {
        let AnyGeneration { id, amount, owner, .. } = self.generations[index];
        let actual = [settled(bucket, amount)];
        match store.settle(ORG, id, &actual).await {
            Ok(_) => {}
            Err(StoreError::CountedByRows) => {
                self.count_at_once(owner, store, bucket).await;
                store.settle_counted(ORG, id, &actual).await.expect("the books are there");
            }
            Err(StoreError::Lost(_)) => return,
            Err(error) => panic!("the store answers, but not with {error}"),
        }
        self.generations[index].is_settled = true;
    }

    /// What a replica does that the store does not know any more.
    async fn tell(&mut self, by: usize, store: &dyn Store, bucket: &Bucket) {
        if self.unknown.remove(&by) && store.observe(&books(), &[]).await.is_ok() {
            self.count_at_once(by, store, bucket).await;
        }
        self.ship(by);
    }
}

async fn happens(place: &mut Place, store: &dyn Store, bucket: &Bucket, event: &Event) {
    place.now += 1;
    match event {
        Event::Admit { amount } => {
            let id = made(place.now);
            // Where the books are lost it is let through all the same: limits may be open then.
            let _ = store.reserve(&wish(id, &[charge(bucket.clone(), u64::MAX >> 11, *amount)])).await;
            place.generations.push(AnyGeneration { id, amount: *amount, owner: place.generations.len() % 2, is_settled: false });
        }
        Event::RowIsJournalled { of } if !place.generations.is_empty() => {
            let AnyGeneration { id, amount, owner, .. } = *of.get(&place.generations);
            if !place.journalled(id) {
                place.journals[owner].insert(id, amount);
            }
        }
        Event::Settle { of } if !place.generations.is_empty() => {
            let index = of.index(place.generations.len());
            if place.journalled(place.generations[index].id) {
                place.settle(store, bucket, index).await;
            }
        }
        Event::JournalIsShipped { by } => place.ship(*by),
        Event::StoreIsLost => place.unknown.extend([0, 1]),
        Event::Tell { by } => place.tell(*by, store, bucket).await,
        Event::BeginCount { by } => place.counts[*by] = Some((place.begin(store).await, None)),
        Event::ReadRows { by } => {
            if let Some((count, None)) = place.counts[*by] {
                place.counts[*by] = Some((count, Some(place.read(*by, &count))));
            }
        }
        Event::EndCount { by } => {
            if let Some((count, Some(read))) = place.counts[*by].take() {
                store.count(&books(), &count, &[(bucket.clone(), read)]).await.expect("the store answers");
            }
        }
        Event::Look => {
            place.seen = store.observe(&books(), &[]).await.ok().filter(Observed::stands_still);
            if place.seen.is_some() {
                place.tell(0, store, bucket).await;
                place.tell(1, store, bucket).await;
            }
        }
        Event::Repair => {
            if let Some(seen) = place.seen.take()
                && let Ok(true) = store.move_cut(&books(), &seen, place.now + 2).await
            {
                place.count_at_once(0, store, bucket).await;
            }
        }
        _ => {}
    }
}

/// Whatever happened, in the end every generation is counted once, and nothing is held.
async fn in_the_end(place: &mut Place, store: &dyn Store, bucket: &Bucket) -> Result<(), TestCaseError> {
    place.count_at_once(0, store, bucket).await;
    for index in 0..place.generations.len() {
        let AnyGeneration { id, amount, owner, is_settled } = place.generations[index];
        if !place.journalled(id) {
            place.journals[owner].insert(id, amount);
        }
        if !is_settled {
            place.settle(store, bucket, index).await;
            prop_assert!(place.generations[index].is_settled, "the books are there");
        }
    }
    for by in [0, 1] {
        place.tell(by, store, bucket).await;
    }
    let all: u64 = place.generations.iter().map(|generation| generation.amount).sum();
    prop_assert_eq!(level(store, bucket).await, used_held(all, 0), "each generation is counted once");
    Ok(())
}

fn each_generation_is_counted_once(cases: u32, lose: impl Fn(AnyStore) -> AnyStore, new: impl Fn() -> AnyStore) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(events in prop::collection::vec(event(), 1..80))| {
        let (mut place, mut store, bucket) = (Place { now: CUT, ..Place::default() }, new(), tokens(member_scope("ann")));
        runtime.block_on(async {
            for event in &events {
                if matches!(event, Event::StoreIsLost) {
                    store = lose(store);
                }
                happens(&mut place, &*store, &bucket, event).await;
                if let Ok(levels) = store.peek(std::slice::from_ref(&bucket)).await {
                    let durable: u64 = place.rows.values().chain(place.journals.iter().flat_map(BTreeMap::values)).sum();
                    prop_assert!(levels[0].used <= durable, "{:?} is more than the rows' {} after {:?}", levels[0], durable, event);
                }
            }
            in_the_end(&mut place, &*store, &bucket).await
        })?;
    });
}

#[test]
fn each_generation_is_counted_once_in_memory() {
    let new = || -> AnyStore { Arc::new(MemoryStore::to_be_restored()) };
    each_generation_is_counted_once(2_000, |_| new(), new);
}

#[test]
fn each_generation_is_counted_once_in_redis() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let redis = runtime.block_on(async { connection(&server) });
    let new = || -> AnyStore {
        server.command::<()>(&["FLUSHALL"]);
        Arc::new(RedisStore::to_be_restored(redis.clone()))
    };
    let lose = |store| {
        server.command::<()>(&["FLUSHALL"]);
        store
    };
    each_generation_is_counted_once(60, lose, new);
}
