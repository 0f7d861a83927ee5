//! Looks at what may have to wait for the disk, for who must not wait.
//!
//! One look goes on at a time, on a thread that may block. Who wants to know waits for it, but not for long: then
//! there is what was found last. So a disk that does not answer costs one thread, however many ask meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a probe waits for a look.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Glimpse<T> {
    is_looking: AtomicBool,
    seen: watch::Sender<Option<Arc<Seen<T>>>>,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen<T> {
    pub(super) what: T,
    began: Instant,
}

impl<T> Seen<T> {
    /// How long ago it was so, at the most.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A look that goes on.
pub(super) struct Looking<T> {
    news: watch::Receiver<Option<Arc<Seen<T>>>>,
    asked: tokio::time::Instant,
}

impl<T> Looking<T> {
    /// Waits for its end, or a moment. None if nothing was ever seen.
    pub(super) async fn seen(self) -> Option<Arc<Seen<T>>> {
        self.seen_within(PATIENCE).await
    }

    async fn seen_within(mut self, patience: Duration) -> Option<Arc<Seen<T>>> {
        // Whether it came in time is told by its age.
        let _ = tokio::time::timeout_at(self.asked + patience, self.news.changed()).await;
        self.news.borrow().clone()
    }
}

impl<T: Send + Sync + 'static> Glimpse<T> {
    /// Nothing was seen yet.
    pub(super) fn new() -> Glimpse<T> {
        Glimpse { is_looking: AtomicBool::new(false), seen: watch::Sender::new(None) }
    }

    /// Looks, which may take long, and shows it to all.
    pub(super) fn look(&self, look: impl FnOnce() -> T) -> Arc<Seen<T>> {
        let began = Instant::now();
        let seen = Arc::new(Seen { what: look(), began });
        self.seen.send_if_modified(|last| {
            let is_newer = last.as_ref().is_none_or(|last| last.began <= began);
            if is_newer {
                *last = Some(seen.clone());
            }
            is_newer
        });
        seen
    }

    /// Lets another thread look, unless one does so already.
    pub(super) fn begin(self: &Arc<Self>, look: impl FnOnce() -> T + Send + 'static) -> Looking<T> {
        let asked = tokio::time::Instant::now();
        let news = self.seen.subscribe();
        if !self.is_looking.swap(true, Ordering::AcqRel) {
            let its = self.clone();
            tokio::task::spawn_blocking(move || {
                let turn = Turn(&its.is_looking);
                its.look(|| {
                    let what = look();
                    // Whoever asks after it was shown finds the turn free.
                    drop(turn);
                    what
                });
            });
        }
        Looking { news, asked }
    }
}

/// Gives the turn back, also if the look fails.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::channel;
    use tokio::runtime::Builder;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn who_asks_while_a_look_hangs_gets_the_last_one_and_starts_no_other() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let glimpse = Arc::new(Glimpse::new());
        let (begin, begun) = channel();
        let (end, ended) = channel::<()>();
        runtime.block_on(async {
            let first = glimpse.begin(|| 1).seen_within(LONG).await.unwrap();
            assert_eq!(first.what, 1);
            let hangs = glimpse.begin(move || {
                begin.send(()).unwrap();
                ended.recv().unwrap();
                2
            });
            begun.recv().unwrap();
            let others = Arc::new(AtomicU32::new(0));
            let asked = || {
                let others = others.clone();
                glimpse.begin(move || others.fetch_add(1, Ordering::Relaxed) + 100)
            };
            for looking in [hangs, asked()] {
                assert_eq!(looking.seen_within(Duration::ZERO).await.unwrap().what, 1);
            }
            let waits = asked();
            end.send(()).unwrap();
            assert_eq!(waits.seen_within(LONG).await.unwrap().what, 2);
            assert_eq!(others.load(Ordering::Relaxed), 0);
            let next = glimpse.begin(|| 3).seen_within(LONG).await.unwrap();
            assert_eq!(next.what, 3, "its turn is over");
        });
    }

    #[test]
    fn a_look_that_fails_gives_its_turn_back() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let glimpse = Arc::new(Glimpse::<u8>::new());
        runtime.block_on(async {
            let fails = glimpse.begin(|| unreachable!("on purpose"));
            while glimpse.is_looking.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
            assert!(fails.seen_within(Duration::ZERO).await.is_none());
            assert_eq!(glimpse.begin(|| 7).seen_within(LONG).await.unwrap().what, 7);
        });
    }
}
