//! What VMs of one image and shape start from: found, or made once for all who wait for it.

use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::mpsc;

use super::shared::{Relay, Said, Shared};
use super::{Engine, Prepared};
use crate::host::cgroup::Support;
use crate::host::disk;
use crate::image::{ImageError, Progress};
use crate::vm::spec::Shape;

/// What is known of one image and shape.
#[derive(Debug)]
pub(super) enum Slot {
    Ready(Arc<Prepared>),
    /// Held by those who wait for it.
    Making(Weak<Making>),
}

type Making = Shared<Result<Arc<Prepared>, Arc<ImageError>>>;

/// A template, or what is to be waited for, and what it says on the way.
enum Found {
    Ready(Arc<Prepared>),
    Making(Arc<Making>, mpsc::Receiver<Said>),
}

/// Whether VMs of one image and shape can be restored at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Somebody builds, bakes or looks for it at the moment.
    BeingMade,
    /// Nobody has asked for it since the start.
    Unknown,
}

impl Engine {
    /// A template of that image and shape, with everything that is missing built and baked first. Whoever asks meanwhile
    /// waits for the same work, whose progress is told to the first; it goes on until the last of them gives up.
    pub async fn prepare(
        &self, name: &str, shape: Shape, progress: &dyn Progress,
    ) -> Result<Arc<Prepared>, ImageError> {
        let (making, mut told) = match self.find_or_make(name, shape) {
            Found::Ready(prepared) => return Ok(prepared),
            Found::Making(making, told) => (making, told),
        };
        let mut outcome = pin!(making.outcome());
        loop {
            tokio::select! {
                biased;
                Some(said) = told.recv() => said.tell(progress),
                made = &mut outcome => return match made {
                    Some(Ok(prepared)) => Ok(prepared),
                    Some(Err(error)) => Err(ImageError::Shared(error)),
                    None => Err(ImageError::Unusable(format!("making the image `{name}` broke off: a fault of Dayfly"))),
                },
            }
        }
    }

    fn find_or_make(&self, name: &str, shape: Shape) -> Found {
        let key = (name.to_owned(), shape);
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = match templates.get(&key) {
            Some(Slot::Ready(prepared)) if self.is_still_right(prepared) => {
                return Found::Ready(Arc::clone(prepared));
            }
            Some(Slot::Making(making)) => making.upgrade(),
            _ => None,
        };
        let (relay, told) = Relay::new();
        let making = under_way.unwrap_or_else(|| {
            let engine = self.clone();
            let work = async move { engine.make(key, &relay).await };
            Arc::new(Shared::begin(work, &self.abandoned))
        });
        templates.insert((name.to_owned(), shape), Slot::Making(Arc::downgrade(&making)));
        Found::Making(making, told)
    }

    /// Builds and bakes what is missing, and remembers the template.
    async fn make(&self, key: (String, Shape), progress: &dyn Progress) -> Result<Arc<Prepared>, Arc<ImageError>> {
        let prepared = Arc::new(self.make_template(&key.0, key.1, progress).await?);
        let ready = Slot::Ready(Arc::clone(&prepared));
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).insert(key, ready);
        Ok(prepared)
    }

    async fn make_template(&self, name: &str, shape: Shape, progress: &dyn Progress) -> Result<Prepared, ImageError> {
        self.settings.vmm().require()?;
        if shape.card {
            self.require_cards()?;
        }
        let ready = self.keeper.ready(name, shape, progress).await?;
        let prepared = Prepared::new(ready, &self.settings.vmm());
        self.pay_for(&prepared).await;
        Ok(prepared)
    }

    /// Has the pages that VMs of one snapshot share charged to this process, where the kernel accounts for them.
    pub(super) async fn pay_for(&self, prepared: &Prepared) {
        if let Support::Missing(_) = self.homes.confinement().groups() {
            return;
        }
        let memory = prepared.template.memory.clone();
        let read = tokio::task::spawn_blocking(move || disk::read_ahead(&memory)).await;
        if let Err(error) = read.map_err(std::io::Error::other).flatten() {
            tracing::debug!(%error, "a snapshot's memory could not be read ahead");
        }
    }

    /// Whether what was prepared once is what would be prepared now.
    fn is_still_right(&self, prepared: &Prepared) -> bool {
        prepared.ready.as_ref().is_some_and(|ready| self.keeper.is_still_right(ready))
    }

    /// Whether a VM of that image and shape can be restored at once.
    pub fn readiness(&self, name: &str, shape: Shape) -> Readiness {
        let templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        match templates.get(&(name.to_owned(), shape)) {
            Some(Slot::Ready(_)) => Readiness::Ready,
            Some(Slot::Making(making)) if making.strong_count() > 0 => Readiness::BeingMade,
            _ => Readiness::Unknown,
        }
    }
}
