//! What a drill proves besides the bytes: that every restored event folds, and that the fold, carried on
//! over what came since, gives the views that are live.

use super::worker::Trouble;
use crate::writer::{Core, StartError};
use domain::{
    codec,
    view::{self, Views},
};
use log::Record;
use types::{EventId, limits};

/// The views, folded from a restored log.
#[derive(Default)]
pub(super) struct Proof {
    views: Views,
    at: EventId,
    wrong: Option<String>,
}

impl Proof {
    /// Folds the next event.
    pub(super) fn add(&mut self, record: &Record) {
        self.at = record.id;
        match codec::decode(record.id, record.epoch, &record.bytes) {
            Ok(envelope) => self.views.apply(&envelope),
            Err(error) => {
                self.wrong.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// Goes on with the live log until both stand at the same event, and compares. A live view that was
    /// set aside is passed over: it is known to be wrong.
    pub(super) fn against(mut self, core: &Core) -> Result<(), Trouble> {
        let stopped = |name: &&str| self.views.quarantined(name).map(|why| why.fault.to_string());
        if let Some(why) = self.wrong.clone().or_else(|| view::NAMES.iter().find_map(stopped)) {
            return Err(Trouble::new(&format!("not every restored event can be folded: {why}")));
        }
        loop {
            let target = *core.viewed().borrow();
            self.fold_until(core, target)?;
            // The follower moves the views and says so under the lock that this holds.
            let different = core.with_views(|live| {
                let at = *core.viewed().borrow();
                if at.get() > self.at.get() + limits::PAGE_ROWS as u64 {
                    return Ok(None);
                }
                self.fold_until(core, at)?;
                let differs = |name: &&&str| {
                    live.quarantined(name).is_none() && live.fingerprint(name) != self.views.fingerprint(name)
                };
                Ok::<_, StartError>(Some(view::NAMES.iter().filter(differs).copied().collect::<Vec<_>>()))
            })?;
            match different {
                None => {}
                Some(none) if none.is_empty() => return Ok(()),
                Some(names) => {
                    let names = names.join(", ");
                    return Err(Trouble::new(&format!(
                        "folded from the restored log, these views are not the live ones: {names}; holdfast views rebuild says which is wrong"
                    )));
                }
            }
        }
    }

    fn fold_until(&mut self, core: &Core, until: EventId) -> Result<(), StartError> {
        while self.at < until {
            let page = core.events(self.at, limits::PAGE_ROWS)?;
            for envelope in page.iter().take_while(|envelope| envelope.id <= until) {
                self.views.apply(envelope);
                self.at = envelope.id;
            }
        }
        Ok(())
    }
}
