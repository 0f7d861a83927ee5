//! Places for connections, and who gives way when all are taken.
//!
//! ```text
//!          comes, or waits                      asks (a whole head has come)
//! outside ────────────────> silent, by turns ─────────────────────────────────> busy
//!                            │       ^                                            │
//!     gives way to whoever   │       └──────── all of the answer is written ──────┘
//!     waits: oldest first    v
//!                          gone
//! ```
//!
//! A connection that says nothing, because it has not asked yet or not again, keeps its place only while nobody else
//! wants it. One whose request is being answered keeps it in any case. Whoever finds all places busy is a guest.

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{Notify, oneshot};

/// Places for connections. Clones are the same.
#[derive(Clone)]
pub(super) struct Room {
    inside: Arc<Mutex<Inside>>,
}

struct Inside {
    free: usize,
    waiting_max: usize,
    /// Those who say nothing, by the order in which they fell silent.
    silent: BTreeMap<u64, (Place, Arc<Notify>)>,
    turns: u64,
    waiting: VecDeque<oneshot::Sender<Place>>,
}

/// The right to be answered, given back when it is dropped.
#[must_use = "it is given back at once"]
struct Place {
    room: Room,
}

impl Drop for Place {
    fn drop(&mut self) {
        let unheard = self.room.inside().hand_on(&self.room);
        // Whoever waited has gone: their places come back here.
        drop(unheard);
    }
}

impl Inside {
    /// A place has become free. Returns what was given to somebody who is not there any more.
    fn hand_on(&mut self, room: &Room) -> Option<Place> {
        match self.waiting.pop_front() {
            Some(waiting) => waiting.send(Place { room: room.clone() }).err(),
            None => {
                self.free += 1;
                None
            }
        }
    }

    /// A free place, or that of whoever has been silent for longest, who is told to go.
    fn take(&mut self, room: &Room) -> Option<Place> {
        if self.free > 0 {
            self.free -= 1;
            return Some(Place { room: room.clone() });
        }
        let (_, (place, gives_way)) = self.silent.pop_first()?;
        gives_way.notify_one();
        Some(place)
    }
}

impl Room {
    /// A room with so many places, in which so many guests may wait for one.
    pub(super) fn new(places: usize, waiting_max: usize) -> Room {
        let (silent, waiting) = (BTreeMap::new(), VecDeque::new());
        let inside = Inside { free: places, waiting_max, silent, turns: 0, waiting };
        Room { inside: Arc::new(Mutex::new(inside)) }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // What is in it is whole at any time.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, once there is one; none if too many wait already.
    async fn wait(&self) -> Option<Place> {
        let waiting = {
            let mut inside = self.inside();
            if let Some(place) = inside.take(self) {
                return Some(place);
            }
            inside.waiting.retain(|waiting| !waiting.is_closed());
            if inside.waiting.len() >= inside.waiting_max {
                return None;
            }
            let (sender, waiting) = oneshot::channel();
            inside.waiting.push_back(sender);
            waiting
        };
        waiting.await.ok()
    }
}

/// What one connection has of a room.
pub(super) struct Seat {
    room: Room,
    held: Mutex<Held>,
    gives_way: Arc<Notify>,
}

enum Held {
    /// No place: it is a guest.
    Nothing,
    /// No place any more: it said nothing while others waited.
    GivenUp,
    /// A place that the room has while nothing is said, under this number; unless somebody has taken it.
    Silent(u64),
    /// A request is being answered.
    Busy(Place),
    /// The answer was made; not all of it is written.
    Ending(Place),
}

/// How a connection is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has a place.
    Seated,
    /// It has none, and may wait for one.
    Guest,
}

impl Seat {
    /// That of somebody who takes a place if there is one, or somebody gives way.
    pub(super) fn new(room: &Room) -> Arc<Seat> {
        let place = room.inside().take(room);
        let gives_way = Arc::new(Notify::new());
        let seat = Seat { room: room.clone(), held: Mutex::new(Held::Nothing), gives_way };
        if let Some(place) = place {
            seat.fall_silent(&mut seat.held(), place);
        }
        Arc::new(seat)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has a place now.
    pub(super) fn standing(&self) -> Standing {
        match &*self.held() {
            Held::Nothing | Held::GivenUp => Standing::Guest,
            Held::Silent(turn) if !self.room.inside().silent.contains_key(turn) => Standing::Guest,
            Held::Silent(_) | Held::Busy(_) | Held::Ending(_) => Standing::Seated,
        }
    }

    /// Whether it has lost its place, and has not asked since.
    fn has_to_go(&self) -> bool {
        match &*self.held() {
            Held::GivenUp => true,
            Held::Silent(turn) => !self.room.inside().silent.contains_key(turn),
            Held::Nothing | Held::Busy(_) | Held::Ending(_) => false,
        }
    }

    /// It asks for something. Who had to give way just now is a guest.
    pub(super) fn ask(&self) -> Standing {
        let mut held = self.held();
        let place = match std::mem::replace(&mut *held, Held::Nothing) {
            Held::Nothing | Held::GivenUp => None,
            Held::Silent(turn) => self.room.inside().silent.remove(&turn).map(|(place, _)| place),
            Held::Busy(place) | Held::Ending(place) => Some(place),
        };
        let Some(place) = place else { return Standing::Guest };
        *held = Held::Busy(place);
        Standing::Seated
    }

    /// A guest waits for a place, and keeps it to the end of the connection. Returns whether there is one.
    pub(super) async fn wait(&self) -> bool {
        let Some(place) = self.room.wait().await else { return false };
        *self.held() = Held::Busy(place);
        true
    }

    /// All of the answer was made.
    pub(super) fn answered(&self) {
        let mut held = self.held();
        *held = match std::mem::replace(&mut *held, Held::Nothing) {
            Held::Busy(place) => Held::Ending(place),
            other => other,
        };
    }

    /// All that was made so far is written.
    pub(super) fn written(&self) {
        let mut held = self.held();
        match std::mem::replace(&mut *held, Held::Nothing) {
            Held::Ending(place) => self.fall_silent(&mut held, place),
            other => *held = other,
        }
    }

    /// From here on `place` is for whoever wants it first: this connection, or somebody else.
    fn fall_silent(&self, held: &mut Held, place: Place) {
        let mut inside = self.room.inside();
        if inside.waiting.iter().any(|waiting| !waiting.is_closed()) {
            drop(inside);
            // It goes to whoever waits.
            drop(place);
            *held = Held::GivenUp;
            self.gives_way.notify_one();
            return;
        }
        inside.turns += 1;
        let turn = inside.turns;
        inside.silent.insert(turn, (place, self.gives_way.clone()));
        *held = Held::Silent(turn);
    }

    /// Waits until the connection has to go: it says nothing, and somebody else has its place. Not if it has
    /// asked meanwhile.
    pub(super) async fn gives_way(&self) {
        loop {
            self.gives_way.notified().await;
            if self.has_to_go() {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let place = match std::mem::replace(&mut *self.held(), Held::Nothing) {
            Held::Silent(turn) => self.room.inside().silent.remove(&turn).map(|(place, _)| place),
            Held::Busy(place) | Held::Ending(place) => Some(place),
            Held::Nothing | Held::GivenUp => None,
        };
        drop(place);
    }
}

/// An answer that tells the seat of its connection when all of it was made, or is wanted no more.
pub(super) struct Answer {
    body: Body,
    seat: Arc<Seat>,
}

impl Answer {
    /// `body`, told to `seat`.
    pub(super) fn new(body: Body, seat: Arc<Seat>) -> Answer {
        Answer { body, seat }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.seat.answered();
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::pin::pin;
    use std::task::Waker;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_told_to_go(seat: &Seat) -> bool {
        poll(pin!(seat.gives_way())).is_ready()
    }

    fn answer(seat: &Seat) {
        assert_eq!(seat.ask(), Standing::Seated);
        seat.written();
        seat.answered();
        seat.written();
    }

    #[test]
    fn the_one_that_was_silent_for_longest_gives_way() {
        let room = Room::new(3, 2);
        let seats = [(); 3].map(|()| Seat::new(&room));
        answer(&seats[0]);
        let next = Seat::new(&room);
        assert_eq!(next.standing(), Standing::Seated);
        let gone = seats.each_ref().map(|seat| is_told_to_go(seat));
        assert_eq!(gone, [false, true, false], "the first has spoken since");
        assert_eq!(seats[1].standing(), Standing::Guest);
    }

    #[test]
    fn who_is_answered_keeps_the_place_until_all_is_written() {
        let room = Room::new(1, 2);
        let seat = Seat::new(&room);
        assert_eq!(seat.ask(), Standing::Seated);
        let steps: [fn(&Seat); 2] = [Seat::written, Seat::answered];
        for step in steps {
            step(&seat);
            assert_eq!(Seat::new(&room).standing(), Standing::Guest);
        }
        seat.written();
        assert!(!is_told_to_go(&seat), "nobody waits");
        assert_eq!(Seat::new(&room).standing(), Standing::Seated);
        assert!(is_told_to_go(&seat));
    }

    #[test]
    fn who_falls_silent_while_others_wait_goes_and_as_many_as_wait() {
        let room = Room::new(2, 2);
        let (one, other) = (Seat::new(&room), Seat::new(&room));
        assert_eq!((one.ask(), other.ask()), (Standing::Seated, Standing::Seated));
        let (guest, late) = (Seat::new(&room), Seat::new(&room));
        let mut waits = Box::pin(guest.wait());
        assert!(poll(waits.as_mut()).is_pending());
        // Who has gone does not wait any more, and nobody has to go for it.
        assert!(poll(Box::pin(late.wait()).as_mut()).is_pending());
        one.answered();
        one.written();
        assert!(is_told_to_go(&one));
        assert_eq!(poll(waits.as_mut()), Poll::Ready(true));
        drop(waits);
        other.answered();
        other.written();
        assert!(!is_told_to_go(&other));
        drop((one, other, guest, late));
        assert_eq!(room.inside().free, 2);
    }

    #[test]
    fn who_asks_in_the_moment_of_giving_way_is_a_guest_and_not_lost() {
        let room = Room::new(1, 1);
        let seat = Seat::new(&room);
        let next = Seat::new(&room);
        assert_eq!(seat.ask(), Standing::Guest);
        let mut waits = Box::pin(seat.wait());
        assert_eq!(poll(waits.as_mut()), Poll::Ready(true), "the next says nothing either");
        assert!(is_told_to_go(&next) && !is_told_to_go(&seat));
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let room = Room::new(1, 2);
        let busy = Seat::new(&room);
        assert_eq!(busy.ask(), Standing::Seated);
        let guests = [(); 3].map(|()| Seat::new(&room));
        let mut waits = guests.each_ref().map(|guest| Box::pin(guest.wait()));
        let polled = waits.each_mut().map(|wait| poll(wait.as_mut()));
        assert_eq!(polled, [Poll::Pending, Poll::Pending, Poll::Ready(false)]);
        drop(busy);
        let [first, second, _] = &mut waits;
        assert_eq!(poll(first.as_mut()), Poll::Ready(true));
        assert!(poll(second.as_mut()).is_pending());
    }

    proptest! {
        /// Whatever happens, there are never more places than there are, and none is lost.
        #[test]
        fn places_are_neither_made_nor_lost(steps in prop::collection::vec((0u8..6, 0usize..8), 1..200)) {
            const PLACES: usize = 3;
            let room = Room::new(PLACES, 2);
            let mut seats: Vec<Arc<Seat>> = Vec::new();
            for (step, which) in steps {
                match (step, seats.get(which % seats.len().max(1)).cloned()) {
                    (0, _) | (_, None) => seats.push(Seat::new(&room)),
                    (1, Some(seat)) => drop(seat.ask()),
                    (2, Some(seat)) => seat.answered(),
                    (3, Some(seat)) => seat.written(),
                    (4, Some(seat)) => {
                        if seat.standing() == Standing::Guest {
                            let _ = poll(pin!(seat.wait()));
                        }
                    }
                    (_, Some(_)) => drop(seats.swap_remove(which % seats.len())),
                }
                let seated = seats.iter().filter(|seat| seat.standing() == Standing::Seated).count();
                prop_assert_eq!(room.inside().free + seated, PLACES);
            }
            seats.clear();
            prop_assert_eq!(room.inside().free, PLACES);
        }
    }
}
