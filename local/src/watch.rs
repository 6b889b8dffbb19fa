//! Noticing edits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Editors write a file in several steps, and a checkout many files: a change is over when it has been quiet this long.
const QUIET: Duration = Duration::from_millis(200);

/// Notices changes of what the deployment is made from: `functions/`, `shared/` and `template.yaml`.
pub struct Watch {
    _watcher: RecommendedWatcher,
    changes: UnboundedReceiver<()>,
}

impl Watch {
    /// Watches the checkout this tool was built in.
    ///
    /// # Errors
    /// The system cannot watch so many files.
    pub fn start() -> Result<Self> {
        Self::of(&crate::stack::root())
    }

    fn of(root: &Path) -> Result<Self> {
        let (sender, changes) = unbounded_channel();
        let template = root.join("template.yaml");
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_edit(&event, &template)) {
                // Nobody listens any more once the receiver is gone.
                let _ = sender.send(());
            }
        })?;
        let watched: [(PathBuf, RecursiveMode); 3] = [
            (root.join("functions"), RecursiveMode::Recursive),
            (root.join("shared"), RecursiveMode::Recursive),
            // Editors replace files: only the folder notices that of a single file.
            (root.to_owned(), RecursiveMode::NonRecursive),
        ];
        for (path, mode) in watched {
            watcher.watch(&path, mode).with_context(|| format!("cannot watch {}", path.display()))?;
        }
        Ok(Self { _watcher: watcher, changes })
    }

    /// Waits for the next change to be over.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {}
    }
}

/// Reading is no edit: a build reads every file.
fn is_edit(event: &notify::Event, template: &Path) -> bool {
    let edits = match event.kind {
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => true,
        EventKind::Access(_) => false,
    };
    let root = template.parent();
    edits && event.paths.iter().any(|path| path == template || (path.parent() != root && Some(path.as_path()) != root))
}

#[cfg(test)]
mod tests {
    use notify::Event;
    use notify::event::{AccessKind, CreateKind, ModifyKind};

    use super::*;

    fn is(kind: EventKind, path: &str) -> bool {
        is_edit(&Event::new(kind).add_path(PathBuf::from(path)), Path::new("/checkout/template.yaml"))
    }

    #[test]
    fn what_is_deployed_counts() {
        let modified = EventKind::Modify(ModifyKind::Any);
        assert!(is(modified, "/checkout/functions/message/src/lib.rs"));
        assert!(is(modified, "/checkout/template.yaml"));
        assert!(is(EventKind::Create(CreateKind::File), "/checkout/shared/domain/src/new.rs"));
    }

    #[test]
    fn reading_and_the_rest_of_the_checkout_do_not() {
        assert!(!is(EventKind::Access(AccessKind::Any), "/checkout/functions/message/src/lib.rs"));
        assert!(!is(EventKind::Modify(ModifyKind::Any), "/checkout/README.md"));
        assert!(!is(EventKind::Create(CreateKind::Folder), "/checkout/target"));
    }

    #[tokio::test]
    async fn an_edit_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["functions/message", "shared"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let mut watch = Watch::of(root.path()).unwrap();
        for file in ["functions/message/lib.rs", "shared/new.rs", "template.yaml"] {
            std::fs::write(root.path().join(file), "").unwrap();
            watch.changed().await;
        }
    }
}
