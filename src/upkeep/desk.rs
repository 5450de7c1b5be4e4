//! Room for VMs that no job asked for. They count against the limits like any other, and jobs come first.
//!
//! Whoever wants one asks here and waits; the scheduler, which alone knows what is free, gives room when no job is queued,
//! and takes it back when one is for lack of it. Room is held until its [`Place`] is dropped, which is after the VM is gone. Who
//! has a place says here which VM is in it, for those who ask what runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::core::Wake;
use crate::forge::RepoName;
use crate::ids::VmId;
use crate::scheduler::plan::Size;

/// Clones are of the same service.
#[derive(Debug, Clone)]
pub struct Desk {
    places: Arc<Mutex<Places>>,
    wake: Arc<Wake>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    asked: Vec<Asked>,
    /// Oldest first.
    held: Vec<Held>,
}

#[derive(Debug)]
struct Asked {
    repo: RepoName,
    size: Size,
    grant: oneshot::Sender<Place>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    repo: RepoName,
    size: Size,
    revoked: CancellationToken,
    occupant: Option<Occupant>,
}

/// What a VM does that no job asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It becomes a prepared snapshot.
    Preparing,
    /// It fills a volume of a cache.
    Filling,
    /// It examines such a volume.
    Examining,
}

/// The VM in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    pub vm: VmId,
    /// For whose jobs it works.
    pub repo: RepoName,
    pub profile: String,
    pub activity: Activity,
    /// Milliseconds since the epoch.
    pub since: i64,
}

/// Room for one VM, until it is dropped.
#[derive(Debug)]
pub struct Place {
    number: u64,
    /// Somebody with a job needs the room: the VM goes.
    pub revoked: CancellationToken,
    desk: Desk,
}

impl Desk {
    /// A desk that wakes the scheduler.
    pub fn new(wake: Arc<Wake>) -> Self {
        Self { places: Arc::default(), wake }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        // Each change leaves it whole.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room. Dropped before that, nobody waits any more.
    pub async fn ask(&self, repo: &RepoName, size: Size) -> Place {
        loop {
            let (grant, granted) = oneshot::channel();
            self.lock().asked.push(Asked { repo: repo.clone(), size, grant });
            self.wake.scheduler.notify_one();
            if let Ok(place) = granted.await {
                return place;
            }
        }
    }

    /// How much those want who wait, in the order in which they asked.
    pub fn asked(&self) -> Vec<Size> {
        self.lock().asked.iter().filter(|asked| !asked.grant.is_closed()).map(|asked| asked.size).collect()
    }

    /// The VMs in the places, for whoever asks what runs.
    pub fn occupants(&self) -> Vec<Occupant> {
        self.lock().held.iter().filter_map(|held| held.occupant.clone()).collect()
    }

    /// What is held, for whoever counts what runs.
    pub fn held(&self) -> Vec<(RepoName, Size)> {
        self.lock().held.iter().map(|held| (held.repo.clone(), held.size)).collect()
    }

    /// Gives the first who asked for what `fits` its place, and tells which room that is. At most one at a time: what fits
    /// changes with each.
    pub fn grant(&self, fits: impl Fn(Size) -> bool) -> Option<Size> {
        let (grant, place, size) = {
            let mut places = self.lock();
            places.asked.retain(|asked| !asked.grant.is_closed());
            let index = places.asked.iter().position(|asked| fits(asked.size))?;
            let Asked { repo, size, grant } = places.asked.remove(index);
            places.next += 1;
            let (number, revoked) = (places.next, CancellationToken::new());
            places.held.push(Held { number, repo, size, revoked: revoked.clone(), occupant: None });
            (grant, Place { number, revoked, desk: self.clone() }, size)
        };
        // The next may fit as well. If nobody waits for this one any more, dropping it gives it back.
        self.wake.scheduler.notify_one();
        drop(grant.send(place));
        Some(size)
    }

    /// Asks the youngest to go, one at a time: whoever waits may need no more than its room.
    pub fn revoke_one(&self) {
        let places = self.lock();
        if places.held.iter().any(|held| held.revoked.is_cancelled()) {
            return;
        }
        if let Some(youngest) = places.held.last() {
            youngest.revoked.cancel();
        }
    }
}

impl Place {
    /// This VM of the profile is in it from now on.
    pub fn occupy(&self, vm: &VmId, profile: &str, activity: Activity) {
        self.change(|held| {
            let (vm, repo, profile) = (vm.clone(), held.repo.clone(), profile.to_owned());
            held.occupant = Some(Occupant { vm, repo, profile, activity, since: clock::now_ms() });
        });
    }

    /// The VM in it, or one that follows it there, is at something else.
    pub fn turns_to(&self, activity: Activity) {
        self.change(|held| {
            if let Some(occupant) = &mut held.occupant {
                occupant.activity = activity;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        self.desk.lock().held.iter_mut().find(|held| held.number == self.number).map(change);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.desk.lock().held.retain(|held| held.number != self.number);
        self.desk.wake.scheduler.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const SMALL: Size = Size { memory_mib: 1, vcpus: 1 };
    const LARGE: Size = Size { memory_mib: 9, vcpus: 1 };

    #[test]
    fn room_is_given_once_and_held_until_its_place_is_dropped() {
        let desk = Desk::new(Arc::default());
        let repo = RepoName::parse("demo/hello").unwrap();
        let (mut large, mut small) = (Box::pin(desk.ask(&repo, LARGE)), Box::pin(desk.ask(&repo, SMALL)));
        assert!(large.as_mut().now_or_never().is_none() && small.as_mut().now_or_never().is_none());
        desk.grant(|size| size == SMALL);
        let place = small.now_or_never().unwrap();
        assert_eq!(desk.held(), [(repo.clone(), SMALL)]);
        assert!(large.as_mut().now_or_never().is_none());
        drop(large);
        desk.grant(|_| true);
        assert_eq!(desk.held().len(), 1, "who does not wait any more gets nothing");
        drop(place);
        assert_eq!(desk.held(), []);
    }

    #[test]
    fn who_has_a_place_is_told_until_it_is_dropped() {
        let desk = Desk::new(Arc::default());
        let repo = RepoName::parse("demo/hello").unwrap();
        let (mut first, second) = (Box::pin(desk.ask(&repo, SMALL)), Box::pin(desk.ask(&repo, LARGE)));
        assert!(first.as_mut().now_or_never().is_none() && second.now_or_never().is_none());
        assert_eq!(desk.asked(), [SMALL], "the other does not wait any more");
        desk.grant(|_| true);
        let place = first.now_or_never().unwrap();
        assert_eq!(desk.occupants(), [], "the VM is not there yet");
        let vm = VmId::random();
        place.occupy(&vm, "linux", Activity::Filling);
        place.turns_to(Activity::Examining);
        let [occupant] = &desk.occupants()[..] else { panic!("{:?}", desk.occupants()) };
        assert_eq!((&occupant.vm, &occupant.repo, occupant.activity), (&vm, &repo, Activity::Examining));
        drop(place);
        assert_eq!(desk.occupants(), []);
    }

    #[test]
    fn one_goes_at_a_time_the_youngest_first() {
        let desk = Desk::new(Arc::default());
        let repo = RepoName::parse("demo/hello").unwrap();
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..3 {
            let mut asking = Box::pin(desk.ask(&repo, SMALL));
            assert!(asking.as_mut().now_or_never().is_none());
            desk.grant(|_| true);
            places.push(asking.now_or_never().unwrap());
        }
        let revoked = |places: &[Place]| places.iter().map(|place| place.revoked.is_cancelled()).collect::<Vec<_>>();
        desk.revoke_one();
        desk.revoke_one();
        assert_eq!(revoked(&places), [false, false, true]);
        places.pop();
        desk.revoke_one();
        assert_eq!(revoked(&places), [false, true]);
    }
}
