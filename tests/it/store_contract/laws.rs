//! The laws themselves.

use tollgate::limits::MAX_AMOUNT;
use tollgate::limits::store::{Orphan, Stage};

use super::*;

pub(super) async fn of_200_at_once_exactly_as_many_are_admitted_as_fit(store: AnyStore) {
    let charges = [charge(tokens(member_scope("ann")), 10_000, 130), charge(tokens(org_scope(ORG)), 7_777, 130)];
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (store, charges) = (store.clone(), charges.clone());
        tasks.spawn(async move { matches!(reserve(&*store, &wish(fresh(), &charges)).await, Decision::Admitted { .. }) });
    }
    let admitted = tasks.join_all().await.into_iter().filter(|is_admitted| *is_admitted).count();
    assert_eq!(admitted, 59, "7777 tokens have room for 59 times 130");
    for charge in &charges {
        assert_eq!(level(&*store, &charge.bucket).await, used_held(0, 59 * 130), "what is held is what was admitted");
    }
}

pub(super) async fn it_is_all_or_nothing(store: AnyStore) {
    let [ann, acme, everyone] = [member_scope("ann"), org_scope(ORG), Scope::Everyone].map(tokens);
    for in_the_way in 0..3 {
        let limit = |i| if i == in_the_way { 99 } else { 1000 };
        let charges = [charge(ann.clone(), limit(0), 100), charge(acme.clone(), limit(1), 100), charge(everyone.clone(), limit(2), 100)];
        let refusal = refuse(&*store, &wish(fresh(), &charges)).await;
        assert_eq!(refusal.bucket, charges[in_the_way].bucket);
        for charge in &charges {
            assert_eq!(level(&*store, &charge.bucket).await, used_held(0, 0), "a refusal must hold nothing");
        }
    }
    let swept = store.sweep(ORG, "replica-2", noon() + LEASE * 2, LEASE).await.expect("the store answers");
    assert_eq!(swept, [], "a refusal must leave no reservation");
}

pub(super) async fn a_refusal_names_the_first_limit_in_the_way(store: AnyStore) {
    let [ann, acme] = [member_scope("ann"), org_scope(ORG)].map(tokens);
    admit(&*store, &wish(fresh(), &[charge(ann.clone(), 100, 30)])).await;
    store.settle(ORG, fresh(), &[settled(&ann, 50)]).await.expect("the store answers");
    let charges = [charge(ann.clone(), 100, 21), charge(acme.clone(), 5, 21)];
    let refusal = refuse(&*store, &wish(fresh(), &charges)).await;
    assert_eq!(refusal, Refusal { bucket: ann.clone(), bar: bar(100), used: 50, held: 30, needs: 21 });
    assert_eq!(refusal.resets_at(), ann.period.ends);

    let charges = [charge(ann, 100, 20), charge(acme.clone(), 5, 21)];
    let refusal = refuse(&*store, &wish(fresh(), &charges)).await;
    assert_eq!(refusal, Refusal { bucket: acme, bar: bar(5), used: 0, held: 0, needs: 21 }, "the first one now fits exactly");
}

pub(super) async fn everyones_limits_come_last(store: AnyStore) {
    let [everyone, acme] = [Scope::Everyone, org_scope(ORG)].map(tokens);
    let charges = [charge(everyone, 5, 10), charge(acme.clone(), 5, 10)];
    assert_eq!(refuse(&*store, &wish(fresh(), &charges)).await.bucket, acme);
}

pub(super) async fn a_limit_of_zero_allows_nothing(store: AnyStore) {
    let ann = tokens(member_scope("ann"));
    refuse(&*store, &wish(fresh(), &[charge(ann.clone(), 0, 1)])).await;
    let room_only = Charge { per_room_token: 1, ..charge(ann, 0, 0) };
    refuse(&*store, &Reserve { room: 10, least_room: 1, ..wish(fresh(), &[room_only]) }).await;
}

pub(super) async fn reserving_twice_is_reserving_once(store: AnyStore) {
    let (id, everyone, ann) = (fresh(), tokens(Scope::Everyone), tokens(member_scope("ann")));
    let charges = [Charge { per_room_token: 1, ..charge(ann.clone(), 50, 10) }, charge(everyone.clone(), 1000, 10)];
    let first = Reserve { room: 100, least_room: 5, ..wish(id, &charges) };
    assert_eq!(admit(&*store, &first).await, 40);
    assert_eq!(admit(&*store, &first).await, 40, "the second call admits again, as it did");
    assert_eq!(level(&*store, &ann).await, used_held(0, 50));
    assert_eq!(level(&*store, &everyone).await, used_held(0, 10));
    assert!(store.settle(ORG, id, &[settled(&ann, 7), settled(&everyone, 7)]).await.expect("the store answers"));
    admit(&*store, &first).await;
    assert_eq!(level(&*store, &ann).await, used_held(7, 0), "a settled reservation holds nothing any more");
    assert_eq!(level(&*store, &everyone).await, used_held(7, 0));
}

pub(super) async fn settling_counts_once(store: AnyStore) {
    let (id, everyone, ann) = (fresh(), tokens(Scope::Everyone), tokens(member_scope("ann")));
    admit(&*store, &wish(id, &[charge(ann.clone(), 100, 60), charge(everyone.clone(), 100, 60)])).await;
    let actual = [settled(&ann, 42), settled(&everyone, 42)];
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (store, actual) = (store.clone(), actual.clone());
        tasks.spawn(async move { store.settle(ORG, id, &actual).await.expect("the store answers") });
    }
    let counted = tasks.join_all().await.into_iter().filter(|counted| *counted).count();
    assert_eq!(counted, 1, "exactly one of 20 settlements counts");
    assert_eq!(level(&*store, &ann).await, used_held(42, 0));
    assert_eq!(level(&*store, &everyone).await, used_held(42, 0));
}

pub(super) async fn settling_what_was_released_or_never_reserved_counts_once(store: AnyStore) {
    let (released, unknown, ann) = (fresh(), fresh(), tokens(member_scope("ann")));
    admit(&*store, &wish(released, &[charge(ann.clone(), 100, 60)])).await;
    store.release(ORG, released).await.expect("the store answers");
    assert_eq!(level(&*store, &ann).await, used_held(0, 0));
    for (id, is_first) in [(released, true), (unknown, true), (released, false), (unknown, false)] {
        let counted = store.settle(ORG, id, &[settled(&ann, 10)]).await.expect("the store answers");
        assert_eq!(counted, is_first, "each id counts the first time only");
    }
    assert_eq!(level(&*store, &ann).await, used_held(20, 0));
}

pub(super) async fn settling_frees_what_it_does_not_mention(store: AnyStore) {
    let (id, everyone, ann, acme) = (fresh(), tokens(Scope::Everyone), tokens(member_scope("ann")), tokens(org_scope(ORG)));
    let buckets = [ann.clone(), acme.clone(), everyone.clone()];
    admit(&*store, &wish(id, &buckets.clone().map(|bucket| charge(bucket, 100, 60)))).await;
    assert!(store.settle(ORG, id, &[settled(&acme, 9)]).await.expect("the store answers"));
    let levels = store.peek(&buckets).await.expect("the store answers");
    assert_eq!(levels, [used_held(0, 0), used_held(9, 0), used_held(0, 0)], "in the order that was asked");
}

pub(super) async fn releasing_what_was_settled_changes_nothing(store: AnyStore) {
    let (id, ann) = (fresh(), tokens(member_scope("ann")));
    admit(&*store, &wish(id, &[charge(ann.clone(), 100, 60)])).await;
    store.settle(ORG, id, &[settled(&ann, 42)]).await.expect("the store answers");
    store.release(ORG, id).await.expect("the store answers");
    store.release(ORG, id).await.expect("the store answers");
    assert!(!store.settle(ORG, id, &[settled(&ann, 42)]).await.expect("the store answers"), "it stays settled");
    assert_eq!(level(&*store, &ann).await, used_held(42, 0));
}

pub(super) async fn a_released_id_may_be_reserved_anew(store: AnyStore) {
    let (id, everyone, ann) = (fresh(), tokens(Scope::Everyone), tokens(member_scope("ann")));
    let charges = [charge(ann.clone(), 100, 60), charge(everyone.clone(), 100, 60)];
    for _ in 0..3 {
        admit(&*store, &wish(id, &charges)).await;
        assert_eq!(level(&*store, &everyone).await, used_held(0, 60));
        store.release(ORG, id).await.expect("the store answers");
        store.release(ORG, id).await.expect("the store answers");
        assert_eq!(level(&*store, &ann).await, used_held(0, 0));
        assert_eq!(level(&*store, &everyone).await, used_held(0, 0));
    }
}

pub(super) async fn a_settlement_after_midnight_goes_to_the_day_that_reserved(store: AnyStore) {
    let before_midnight: Timestamp = "2026-11-20T23:59:59Z".parse().expect("this is an instant");
    let after_midnight: Timestamp = "2026-11-21T00:10:00Z".parse().expect("this is an instant");
    let [old, new] = [before_midnight, after_midnight].map(|now| tokens_on(now, member_scope("ann")));
    let (late, next) = (fresh(), fresh());
    admit(&*store, &Reserve { now: before_midnight, ..wish(late, &[charge(old.clone(), 100, 80)]) }).await;
    admit(&*store, &Reserve { now: after_midnight, ..wish(next, &[charge(new.clone(), 100, 80)]) }).await;
    store.settle(ORG, late, &[settled(&old, 70)]).await.expect("the store answers");
    assert_eq!(level(&*store, &old).await, used_held(70, 0));
    assert_eq!(level(&*store, &new).await, used_held(0, 80), "the new day has its own counter");
}

pub(super) async fn the_truth_may_exceed_the_limit(store: AnyStore) {
    let (id, ann) = (fresh(), tokens(member_scope("ann")));
    admit(&*store, &wish(id, &[charge(ann.clone(), 100, 60)])).await;
    store.settle(ORG, id, &[settled(&ann, 250)]).await.expect("the store answers");
    let refusal = refuse(&*store, &wish(fresh(), &[charge(ann, 100, 1)])).await;
    assert_eq!((refusal.used, refusal.held), (250, 0));
}

pub(super) async fn extending_raises_and_never_lowers(store: AnyStore) {
    let (id, everyone, ann, other) = (fresh(), tokens(Scope::Everyone), tokens(member_scope("ann")), tokens(org_scope(ORG)));
    admit(&*store, &wish(id, &[charge(ann.clone(), 100, 60), charge(everyone.clone(), 1000, 60)])).await;
    for (to, holds) in [(90, 90), (70, 90), (90, 90), (150, 150)] {
        let to = [settled(&ann, to), settled(&everyone, to), settled(&other, to)];
        store.extend(ORG, id, &to).await.expect("the store answers");
        assert_eq!(level(&*store, &ann).await, used_held(0, holds), "it may pass the limit, as the truth may");
        assert_eq!(level(&*store, &everyone).await, used_held(0, holds));
        assert_eq!(level(&*store, &other).await, used_held(0, 0), "a counter that was not reserved is left alone");
    }
    store.settle(ORG, id, &[settled(&ann, 1), settled(&everyone, 1)]).await.expect("the store answers");
    store.extend(ORG, id, &[settled(&ann, 500)]).await.expect("the store answers");
    assert_eq!(level(&*store, &ann).await, used_held(1, 0), "all of it was taken back, and a settled one holds nothing more");
    assert_eq!(level(&*store, &everyone).await, used_held(1, 0));
}

pub(super) async fn the_room_shrinks_before_anyone_is_refused(store: AnyStore) {
    let cost = Bucket { resource: Resource::Cost, ..tokens(member_scope("ann")) };
    let charges = [
        Charge { per_room_token: 1, ..charge(tokens(member_scope("ann")), 1_000, 100) },
        Charge { per_room_token: 7, ..charge(cost.clone(), 5_000, 99) },
        charge(Bucket { resource: Resource::Messages, ..cost.clone() }, 50, 1),
    ];
    let with = |id, room, least_room| Reserve { room, least_room, ..wish(id, &charges) };
    assert_eq!(admit(&*store, &with(fresh(), 500, 50)).await, 500, "the whole room fits");
    assert_eq!(level(&*store, &cost).await, used_held(0, 99 + 7 * 500));
    assert_eq!(admit(&*store, &with(fresh(), 500, 50)).await, 186, "(5000 - 3599 - 99) / 7, rounded down");
    let refusal = refuse(&*store, &with(fresh(), 500, 50)).await;
    assert_eq!((refusal.bucket, refusal.needs), (charges[0].bucket.clone(), 150), "1000 - 600 - 286 does not hold 150 tokens");
    let refusal = refuse(&*store, &with(fresh(), 500, 2)).await;
    assert_eq!((refusal.bucket, refusal.needs), (cost, 113), "102 tokens would fit, but 113 nano-dollars do not");
}

pub(super) async fn the_room_shrinks_to_what_everyone_has_left(store: AnyStore) {
    let (id, everyone, ann) = (fresh(), tokens(Scope::Everyone), tokens(member_scope("ann")));
    let per_token = |bucket: &Bucket, limit| Charge { per_room_token: 2, ..charge(bucket.clone(), limit, 10) };
    let charges = [per_token(&ann, 150), per_token(&everyone, 90)];
    let all = Reserve { room: 1000, least_room: 30, ..wish(id, &charges) };
    assert_eq!(admit(&*store, &all).await, 40, "70 would fit for the member, 40 for everyone");
    assert_eq!(admit(&*store, &all).await, 40, "asked again, it is the same");
    assert_eq!(level(&*store, &ann).await, used_held(0, 90), "no more is held than the room that was admitted");
    assert_eq!(level(&*store, &everyone).await, used_held(0, 90));
    store.release(ORG, id).await.expect("the store answers");
    assert_eq!(level(&*store, &ann).await, used_held(0, 0));
}

pub(super) async fn shadow_limits_only_tell(store: AnyStore) {
    let (everyone, ann, acme) = (tokens(Scope::Everyone), tokens(member_scope("ann")), tokens(org_scope(ORG)));
    let shadow =
        |bucket: &Bucket, limit| Charge { enforce: None, shadow: Some(bar(limit)), per_room_token: 1, ..charge(bucket.clone(), 0, 10) };
    let charges = [shadow(&ann, 10), Charge { enforce: Some(bar(1000)), ..shadow(&acme, 14) }, shadow(&everyone, 15)];
    let wanted = Reserve { room: 100, least_room: 5, ..wish(fresh(), &charges) };
    let decision = reserve(&*store, &wanted).await;
    let told = |bucket: &Bucket, limit| Refusal { bucket: bucket.clone(), bar: bar(limit), used: 0, held: 0, needs: 15 };
    let shadowed = vec![told(&ann, 10), told(&acme, 14)];
    assert_eq!(decision, Decision::Admitted { room: 100, shadowed }, "15 would have fitted with the least room; the others not");
    assert_eq!(level(&*store, &ann).await, used_held(0, 110), "counted as if there were no limit");
    let decision = reserve(&*store, &Reserve { id: fresh(), ..wanted }).await;
    let Decision::Admitted { shadowed, .. } = decision else { panic!("shadow limits must not refuse: {decision:?}") };
    let seen: Vec<_> = shadowed.iter().map(|refusal| (&refusal.bucket, refusal.held)).collect();
    assert_eq!(seen, [(&ann, 110), (&acme, 110), (&everyone, 110)], "the org's before everyone's");
}

pub(super) async fn caps_of_everyone_hold_across_orgs(store: AnyStore) {
    let everyone = tokens(Scope::Everyone);
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..60 {
        let (store, everyone) = (store.clone(), everyone.clone());
        tasks.spawn(async move {
            let org = format!("org-{}", i % 6);
            let charges = [charge(tokens(org_scope(&org)), 1_000_000, 10), charge(everyone, 205, 10)];
            matches!(reserve(&*store, &Reserve { org: &org, ..wish(fresh(), &charges) }).await, Decision::Admitted { .. })
        });
    }
    let admitted = tasks.join_all().await.into_iter().filter(|is_admitted| *is_admitted).count();
    assert_eq!(admitted, 20, "205 tokens have room for 20 times 10, whichever orgs they are of");
    let mut held = 0;
    for i in 0..6 {
        held += level(&*store, &tokens(org_scope(&format!("org-{i}")))).await.held;
    }
    assert_eq!((held, level(&*store, &everyone).await), (200, used_held(0, 200)), "both sides hold the same");
}

pub(super) async fn amounts_are_exact_near_the_largest(store: AnyStore) {
    let dollars_150_000 = 150_000 * 1_000_000_000;
    let cost = Bucket { resource: Resource::Cost, ..tokens(member_scope("ann")) };
    store.settle(ORG, fresh(), &[settled(&cost, MAX_AMOUNT - dollars_150_000 - 4)]).await.expect("the store answers");
    refuse(&*store, &wish(fresh(), &[charge(cost.clone(), MAX_AMOUNT, dollars_150_000 + 5)])).await;
    let id = fresh();
    admit(&*store, &wish(id, &[charge(cost.clone(), MAX_AMOUNT, dollars_150_000 + 1)])).await;
    assert_eq!(level(&*store, &cost).await, used_held(MAX_AMOUNT - dollars_150_000 - 4, dollars_150_000 + 1));
    let one = Charge { per_room_token: 1, ..charge(cost.clone(), MAX_AMOUNT, 0) };
    assert_eq!(admit(&*store, &Reserve { room: 10, least_room: 1, ..wish(fresh(), std::slice::from_ref(&one)) }).await, 3);
    let refusal = refuse(&*store, &Reserve { room: 10, least_room: 1, ..wish(fresh(), &[one]) }).await;
    assert_eq!(refusal.used + refusal.held, MAX_AMOUNT, "not one nano-dollar is lost");
    store.settle(ORG, id, &[settled(&cost, dollars_150_000)]).await.expect("the store answers");
    assert_eq!(level(&*store, &cost).await, used_held(MAX_AMOUNT - 4, 3));
}

pub(super) async fn amounts_beyond_the_largest_stay_within_it(store: AnyStore) {
    let (id, ann) = (fresh(), tokens(member_scope("ann")));
    let huge = Charge { enforce: None, shadow: Some(bar(5)), per_room_token: u64::MAX, ..charge(ann.clone(), 0, u64::MAX) };
    let huge = [huge];
    admit(&*store, &Reserve { room: u64::MAX, least_room: 1, ..wish(id, &huge) }).await;
    let second = fresh();
    admit(&*store, &Reserve { room: u64::MAX, least_room: u64::MAX, ..wish(second, &huge) }).await;
    assert_eq!(level(&*store, &ann).await, used_held(0, MAX_AMOUNT), "a counter that is full stays full");
    store.extend(ORG, second, &[settled(&ann, u64::MAX)]).await.expect("the store answers");
    store.release(ORG, second).await.expect("the store answers");
    assert_eq!(level(&*store, &ann).await, used_held(0, MAX_AMOUNT), "what did not fit is not taken back either");
    store.settle(ORG, id, &[settled(&ann, u64::MAX)]).await.expect("the store answers");
    store.settle(ORG, fresh(), &[settled(&ann, 1)]).await.expect("the store answers");
    assert_eq!(level(&*store, &ann).await, used_held(MAX_AMOUNT, 0));
    let charges = [Charge { per_room_token: 1, ..charge(ann, MAX_AMOUNT, 0) }];
    refuse(&*store, &Reserve { room: u64::MAX, least_room: u64::MAX, ..wish(fresh(), &charges) }).await;
}

pub(super) async fn a_lapsed_lease_is_taken_over_once(store: AnyStore) {
    let (first, second, ann) = (fresh(), fresh(), tokens(member_scope("ann")));
    let charges = [charge(ann, 1000, 60)];
    admit(&*store, &wish(first, &charges)).await;
    admit(&*store, &Reserve { now: noon() + LEASE / 2, record: "second", ..wish(second, &charges) }).await;
    store.write(ORG, first, Stage::Forwarded, "on its way").await.expect("the store answers");

    let sweep = async |owner, now| store.sweep(ORG, owner, now, LEASE).await.expect("the store answers");
    assert_eq!(sweep("replica-2", noon() + LEASE / 2).await, [], "nothing has lapsed yet");
    let lapsed = noon() + LEASE;
    assert_eq!(store.sweep("other-org", "replica-2", lapsed, LEASE).await.expect("the store answers"), [], "of another org");
    let orphan = Orphan { id: first, stage: Stage::Forwarded, fence: 2, record: "on its way".to_owned() };
    let holder = async |id| store.holder(ORG, id).await.expect("the store answers").map(|holder| (holder.owner, holder.stage));
    assert_eq!(holder(first).await, Some(("replica-1".to_owned(), Stage::Forwarded)));
    assert_eq!(sweep("replica-2", lapsed).await, [orphan]);
    assert_eq!(holder(first).await, Some(("replica-2".to_owned(), Stage::Forwarded)));
    assert_eq!(holder(second).await, Some(("replica-1".to_owned(), Stage::Held)));
    assert_eq!(holder(fresh()).await, None, "nobody has what is not there");
    assert_eq!(sweep("replica-3", lapsed).await, [], "it is taken, and its new lease runs");

    let renew =
        async |owner, fence| store.renew(ORG, owner, &[(first, fence), (second, 1)], lapsed, LEASE).await.expect("the store answers");
    assert_eq!(renew("replica-1", 1).await, [first], "its old owner has lost it, and keeps the other");
    assert_eq!(renew("replica-2", 2).await, [second], "its new owner has it");
    assert_eq!(renew("replica-2", 1).await, [first, second], "the old fencing number is of no use to anyone");

    let orphans = sweep("replica-1", lapsed + LEASE).await;
    let seen: Vec<_> = orphans.iter().map(|orphan| (orphan.id, orphan.fence, orphan.stage)).collect();
    assert_eq!(seen, [(first, 3, Stage::Forwarded), (second, 2, Stage::Held)], "both lapsed, the fences go on counting");
}

pub(super) async fn a_renewed_lease_is_not_taken_over(store: AnyStore) {
    let (id, ann) = (fresh(), tokens(member_scope("ann")));
    admit(&*store, &wish(id, &[charge(ann, 1000, 60)])).await;
    let at = |minutes: u32| noon() + LEASE * minutes;
    for minute in 1..5 {
        let lost = store.renew(ORG, "replica-1", &[(id, 1)], at(minute), LEASE * 2).await.expect("the store answers");
        assert!(lost.is_empty(), "it is still its owner's");
        assert_eq!(store.sweep(ORG, "replica-2", at(minute + 1), LEASE).await.expect("the store answers"), []);
    }
    let late = store.renew(ORG, "replica-1", &[(id, 1)], at(1), LEASE).await.expect("the store answers");
    assert!(late.is_empty(), "it is still its owner's");
    let swept = store.sweep(ORG, "replica-2", at(5), LEASE).await.expect("the store answers");
    assert_eq!(swept, [], "a renewal that comes late does not shorten the lease");
}

pub(super) async fn a_lease_that_was_let_go_is_taken_over_at_once(store: AnyStore) {
    let (id, ann) = (fresh(), tokens(member_scope("ann")));
    admit(&*store, &wish(id, &[charge(ann, 1000, 60)])).await;
    store.hand_over(ORG, id).await.expect("the store answers");
    let lost = store.renew(ORG, "replica-1", &[(id, 1)], noon(), LEASE).await.expect("the store answers");
    assert_eq!(lost, [id], "who let go has lost it");
    let orphans = store.sweep(ORG, "replica-2", noon(), LEASE).await.expect("the store answers");
    assert_eq!(orphans, [Orphan { id, stage: Stage::Held, fence: 2, record: "as reserved".to_owned() }]);
    store.hand_over(ORG, fresh()).await.expect("letting go of what does not exist is no error");
    assert_eq!(store.sweep(ORG, "replica-3", noon(), LEASE).await.expect("the store answers"), []);
}

pub(super) async fn what_is_ended_is_not_swept(store: AnyStore) {
    let (settled_id, released, ann) = (fresh(), fresh(), tokens(member_scope("ann")));
    for id in [settled_id, released] {
        admit(&*store, &wish(id, &[charge(ann.clone(), 1000, 60)])).await;
    }
    store.settle(ORG, settled_id, &[settled(&ann, 5)]).await.expect("the store answers");
    store.release(ORG, released).await.expect("the store answers");
    store.write(ORG, released, Stage::Forwarded, "too late").await.expect("the store answers");
    let open = [(settled_id, 1), (released, 1)];
    let lost = store.renew(ORG, "replica-1", &open, noon(), LEASE).await.expect("the store answers");
    assert_eq!(lost, [settled_id, released], "what is ended is nobody's");
    assert_eq!(store.sweep(ORG, "replica-2", noon() + LEASE * 9, LEASE).await.expect("the store answers"), []);
}

pub(super) async fn a_reservation_without_charges_is_swept_like_any_other(store: AnyStore) {
    let id = fresh();
    assert_eq!(admit(&*store, &Reserve { room: 77, least_room: 5, ..wish(id, &[]) }).await, 77);
    let orphans = store.sweep(ORG, "replica-2", noon() + LEASE, LEASE).await.expect("the store answers");
    assert_eq!(orphans.len(), 1, "it says whose the generation is");
    store.release(ORG, id).await.expect("the store answers");
    assert_eq!(store.sweep(ORG, "replica-2", noon() + LEASE * 9, LEASE).await.expect("the store answers"), []);
}

pub(super) async fn strange_names_do_not_mix(store: AnyStore) {
    let names = ["everyone", "{everyone}", "a b", "a}b", "a:b", "a", "", "회사", "%61", "m:a"];
    for (i, name) in (1..).zip(names) {
        let buckets = [tokens(org_scope(name)), tokens(Scope::Member { org: name.into(), member: "a".into() })];
        let charges = buckets.map(|bucket| charge(bucket, 1000, i));
        admit(&*store, &Reserve { org: name, ..wish(fresh(), &charges) }).await;
    }
    for (i, name) in (1..).zip(names) {
        assert_eq!(level(&*store, &tokens(org_scope(name))).await, used_held(0, i), "org {name:?} got another's use");
        let orphans = store.sweep(name, "replica-2", noon() + LEASE, LEASE).await.expect("the store answers");
        assert_eq!(orphans.len(), 1, "org {name:?} has one reservation");
    }
    assert_eq!(level(&*store, &tokens(Scope::Everyone)).await, used_held(0, 0));
}
