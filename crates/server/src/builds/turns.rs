//! Turns of uploads: so many at once, and so many of one project, so that no project keeps the
//! others waiting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use courier_types::ProjectId;

/// Uploads at once: each has a file open and is hashed.
const AT_ONCE: usize = 16;

/// Uploads of one project at once: the SDKs send all archives of a template side by side.
const OF_A_PROJECT: usize = 8;

/// Who uploads.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<ProjectId, usize>>>);

impl Turns {
    /// A turn for a project; `None` where there is none now.
    pub(super) fn take(&self, project: &ProjectId) -> Option<Turn> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(project).copied().unwrap_or_default();
        if own >= OF_A_PROJECT || taken.values().sum::<usize>() >= AT_ONCE {
            return None;
        }
        taken.insert(project.clone(), own + 1);
        Some(Turn { turns: self.clone(), project: project.clone() })
    }
}

/// A turn; dropped, somebody else may have it.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    project: ProjectId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.project) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_that_has_all_its_turns_leaves_some_to_others() {
        let turns = Turns::default();
        let [first, second, third] = [1, 2, 3].map(|byte| ProjectId::from_random([byte; 20]));
        let take = |project: &ProjectId| {
            std::iter::from_fn(|| turns.take(project)).take(100).collect::<Vec<_>>()
        };
        let of_first = take(&first);
        assert_eq!(of_first.len(), OF_A_PROJECT);
        let of_second = take(&second);
        assert_eq!(of_second.len(), OF_A_PROJECT);
        assert!(turns.take(&third).is_none(), "all are taken");
        drop(of_first);
        assert!(turns.take(&third).is_some());
        drop(of_second);
        assert!(turns.0.lock().unwrap().is_empty(), "nobody is remembered");
    }
}
