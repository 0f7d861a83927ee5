//! Histories that broke earlier rules. Each passes with all rules and goes wrong without its own.

use crate::action::{Action, Pace};
use crate::chance::replay;
use crate::rule::{Rule, Rules};
use crate::world::{NODES, Name, RANGE, Role, Slot, World, origin};

const A: Name = 0;
const B: Name = 1;
const C: Name = 2;
const X: Slot = 0;
const Y: Slot = 1;

const AUTHORS: [Role; NODES] = [Role::Author; NODES];
/// C reads and relays.
const C_RELAYS: [Role; NODES] = [Role::Author, Role::Author, Role::Observer];
/// The life that begins with the first restore or readmission of a history.
const FOURTH: u8 = 3;
/// The one that begins with the second.
const FIFTH: u8 = 4;

/// Plays `steps` with all rules, where nothing may go wrong, and without `rule`, where something
/// must. A step that a rule forbids is passed over.
#[track_caller]
fn shows(rule: Rule, first: World, steps: &[Action]) {
    let all = Rules::all();
    if let (steps, Err(violation)) = replay(first.clone(), steps, &all) {
        panic!("with all rules: {violation}\n{}", first.tell(&steps, &all));
    }
    let (taken, left_out) = replay(first, steps, &Rules::without(rule));
    match left_out {
        Ok(()) => panic!("nothing goes wrong without {rule:?}; steps taken: {taken:#?}"),
        Err(violation) => println!("without {rule:?}: {violation}"),
    }
}

fn put(at: Name, key: Slot) -> Action {
    Action::Put { at, key, pace: Pace::Slow }
}

fn delete(at: Name, slot: Slot) -> Action {
    Action::Delete { at, slot, pace: Pace::Fast }
}

/// The next record of the first life of `of`.
fn ship(from: Name, to: Name, of: Name) -> Action {
    Action::Ship { from, to, author: origin(of, of as u8) }
}

/// The next record of a later life of `of`.
fn ship_life(from: Name, to: Name, of: Name, birth: u8) -> Action {
    Action::Ship { from, to, author: origin(of, birth) }
}

fn state(from: Name, to: Name) -> Action {
    Action::State { from, to, about: from }
}

fn drop_in(at: Name, slot: Slot) -> Action {
    Action::Collect { at, slot }
}

/// History 1: A sees a put that no vector covers.
#[test]
fn a_delta_that_breaks_off_leaves_nothing() {
    let steps = [
        Action::Backup { at: B },
        put(B, X),
        Action::Delta { from: B, to: A },
        Action::BreakOff { at: A },
        Action::Restore { at: B },
    ];
    shows(Rule::DeltaIsStaged, World::new(AUTHORS, None), &steps);
}

/// History 2: C has the late put and misses its erase.
#[test]
fn an_erase_is_not_taken_for_its_victim() {
    let steps = [
        put(B, Y),
        ship(B, C, B),
        Action::Deprecate { at: A, who: B },
        delete(A, X),
        drop_in(A, X),
        ship(A, C, A),
        ship(A, C, A),
        ship(C, A, B), // late: A erases it
        Action::Delta { from: A, to: C },
        Action::Install { at: C },
    ];
    shows(Rule::EraseByCarrier, World::new(C_RELAYS, None), &steps);
}

/// History 3: The erase of C's put hides that A has let go of B's greater one.
#[test]
fn an_older_version_does_not_mask_an_absence() {
    let steps = [
        put(C, X),
        ship(C, B, C),
        put(B, X),
        ship(B, A, B),
        Action::Deprecate { at: A, who: B },
        Action::Deprecate { at: A, who: C },
        delete(A, X),
        drop_in(A, X),
        Action::Push { from: C, to: A }, // late: A erases it
        Action::Push { from: B, to: A },
        Action::Fetch { from: A, to: B },
        Action::Install { at: B },
    ];
    shows(Rule::AbsenceByStamp, World::new(AUTHORS, None), &steps);
}

/// History 4: The erase is at C before its victim.
#[test]
fn an_erase_shadows_a_victim_that_comes_later() {
    let steps = [
        put(B, Y),
        Action::Deprecate { at: A, who: B },
        delete(A, X),
        drop_in(A, X),
        Action::Push { from: B, to: A }, // late: A erases it
        Action::Fetch { from: A, to: B },
        Action::Install { at: B },
        ship(A, C, A),
        ship(A, C, A),
        ship(A, C, A),
        ship(A, C, A),
        ship(B, C, B),
    ];
    shows(Rule::EraseShadows, World::new(C_RELAYS, None), &steps);
}

/// History 5: A's statement covers its own put from before the restore, which C does not have.
#[test]
fn a_statement_waits_for_every_component() {
    let steps = [
        put(A, Y),
        delete(B, X),
        ship(B, A, B),
        ship(B, C, B),
        Action::Backup { at: A },
        Action::Restore { at: A },
        Action::Announce { at: A, to: B },
        ship_life(A, C, A, FOURTH),
        state(A, C),
        state(B, C),
        drop_in(C, X),
        ship(A, C, A),
    ];
    shows(Rule::EveryComponent, World::new(AUTHORS, None), &steps);
}

/// History 6: C has dropped what should have met the late put, and may not erase it.
#[test]
fn an_observer_refuses_a_late_put() {
    let steps = [
        put(B, Y),
        Action::Deprecate { at: A, who: B },
        delete(A, Y),
        ship(A, C, A),
        ship(A, C, A),
        state(A, C),
        drop_in(C, Y),
        Action::Push { from: B, to: A },
        Action::Fetch { from: A, to: B },
        Action::Install { at: B },
        ship(A, C, A),
        ship(B, C, B),
    ];
    shows(Rule::ObserverRefuses, World::new(C_RELAYS, None), &steps);
}

/// History 8: A's put survived the restore of A on C only; C rejoins over the delete of it.
#[test]
fn a_rejoiner_sends_what_it_has_of_all_origins() {
    let steps = [
        Action::Backup { at: A },
        put(A, X),
        ship(A, C, A),
        Action::Restore { at: A },
        Action::Announce { at: A, to: B },
        delete(B, X),
        ship(B, A, B),
        state(A, B),
        drop_in(B, X),
        Action::Push { from: C, to: B },
        Action::Fetch { from: B, to: C },
        Action::Install { at: C },
    ];
    shows(Rule::PushOfAllOrigins, World::new(C_RELAYS, None), &steps);
}

/// History 7: B is back on the roster, not installed yet, and already has its say.
#[test]
fn a_rejoiner_is_closed_until_its_install() {
    let steps = [
        Action::Deprecate { at: A, who: B },
        Action::Backup { at: A },
        Action::Push { from: B, to: A },
        Action::Deprecate { at: B, who: A },
        Action::Restore { at: A },
    ];
    shows(Rule::RejoinerClosed, World::new(C_RELAYS, None), &steps);
}

/// History 9: C has dropped the last delete of a put that A has again from its backup. Its state
/// carries A over that delete.
#[test]
fn a_rejoin_goes_both_ways() {
    let steps = [
        put(A, X),
        Action::Backup { at: A },
        ship(A, C, A),
        delete(A, X),
        ship(A, C, A),
        delete(A, RANGE),
        ship(A, C, A),
        Action::Deprecate { at: A, who: B },
        ship(A, C, A),
        Action::TrimLog { at: C },
        state(A, C),
        drop_in(C, RANGE),
        Action::Restore { at: A },
    ];
    shows(Rule::RejoinBothWays, World::new(C_RELAYS, None), &steps);
}

/// History 10: Nobody but C knows that C is an author, so nobody waits for it.
#[test]
fn a_joiner_is_on_the_roster_before_it_writes() {
    let steps = [
        Action::Bootstrap { from: A, to: C },
        Action::Install { at: C },
        put(C, Y),
        delete(A, RANGE),
        ship(A, B, A),
        ship(A, B, A),
        state(B, A),
        drop_in(A, RANGE),
        ship(C, A, C),
        ship(C, A, C),
    ];
    shows(Rule::RosterFirst, World::new(AUTHORS, Some(C)), &steps);
}

/// History 10: A's clock is the one of the backup, far behind what B has dropped meanwhile.
#[test]
fn a_restored_author_writes_nothing_before_it_has_met_another() {
    let steps = [
        Action::Backup { at: A },
        delete(B, X),
        ship(B, A, B),
        state(A, B),
        drop_in(B, X),
        Action::Restore { at: A },
        put(A, Y),
        ship_life(A, B, A, FOURTH),
    ];
    shows(Rule::RestoredWaits, World::new(C_RELAYS, None), &steps);
}

/// B hears through C that C is deprecated, and then fences the only one who could tell it more.
#[test]
fn the_newest_record_says_who_is_fenced() {
    let steps = [
        Action::Bootstrap { from: A, to: B },
        Action::Backup { at: A },
        Action::Install { at: B },
        Action::Deprecate { at: B, who: A },
        Action::Push { from: A, to: B },
        Action::Restore { at: A },
        Action::Announce { at: A, to: B },
        ship(B, A, B),
        ship(B, A, B),
        ship(A, C, B),
    ];
    shows(Rule::NewestRecordFences, World::new(C_RELAYS, Some(B)), &steps);
}

/// B still counts what A said in the life before, and does not wait for what A writes now.
#[test]
fn a_statement_ends_with_its_life() {
    let steps = [
        Action::Backup { at: A },
        delete(B, X),
        delete(B, X),
        delete(B, X),
        ship(B, A, B),
        ship(B, A, B),
        ship(B, A, B),
        state(A, B),
        Action::Restore { at: A },
        Action::Announce { at: A, to: C },
        put(A, Y),
        ship(B, C, B),
        ship(B, C, B),
        ship(B, C, B),
        ship_life(C, B, A, FOURTH),
        state(C, B),
        drop_in(B, X),
        ship_life(A, B, A, FOURTH),
    ];
    shows(Rule::StatementsOfThisLife, World::new(AUTHORS, None), &steps);
}

/// A, restored, has a put of B that C, below whose floor A is, would have found late.
#[test]
fn a_donor_asks_of_its_own_puts_whether_they_are_late() {
    let steps = [
        Action::Deprecate { at: A, who: B },
        Action::Backup { at: A },
        put(B, X),
        delete(A, X),
        ship(A, C, A),
        ship(A, C, A),
        state(A, C),
        drop_in(C, X),
        Action::Restore { at: A },
        Action::Overrule { at: A },
        Action::Push { from: B, to: A },
        Action::Push { from: C, to: A },
    ];
    shows(Rule::DonorsLatePuts, World::new(C_RELAYS, None), &steps);
}

/// C still counts what A said before it was restored, fenced, and readmitted by B.
#[test]
fn a_statement_from_before_the_readmission_does_not_count() {
    let steps = [
        Action::Backup { at: A },
        delete(C, X),
        delete(C, X),
        delete(C, X),
        ship(C, A, C),
        ship(C, A, C),
        ship(C, A, C),
        state(A, C),
        Action::Restore { at: A },
        Action::Deprecate { at: B, who: A },
        Action::Push { from: A, to: B },
        Action::Fetch { from: B, to: A },
        Action::Install { at: A },
        put(A, Y),
        ship(C, B, C),
        ship(C, B, C),
        ship(C, B, C),
        ship(B, C, B),
        ship(B, C, B),
        state(B, C),
        drop_in(C, X),
        ship_life(A, C, A, FIFTH),
    ];
    shows(Rule::StatementsOfMembers, World::new(AUTHORS, None), &steps);
}

/// B readmits A, restored, and C, which has heard nothing of that, gives A an old state.
#[test]
fn who_is_readmitted_fetches_from_one_that_knows_it() {
    let steps = [
        Action::Backup { at: A },
        delete(B, X),
        delete(B, X),
        delete(B, X),
        ship(B, A, B),
        ship(B, A, B),
        ship(B, A, B),
        state(A, C),
        state(B, C),
        Action::Restore { at: A },
        Action::Deprecate { at: B, who: A },
        Action::Push { from: A, to: B },
        Action::Fetch { from: C, to: A },
        Action::Install { at: A },
        put(A, Y),
        ship(B, C, B),
        ship(B, C, B),
        ship(B, C, B),
        drop_in(C, X),
        ship_life(A, C, A, FIFTH),
    ];
    shows(Rule::DonorKnowsMember, World::new(AUTHORS, None), &steps);
}
