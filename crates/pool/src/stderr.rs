//! The last lines that a worker wrote to its stderr.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeReader, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of a line that are kept together; a longer one counts as several.
const LINE_BYTES: u64 = 4096;
/// How long the death of a worker waits for the last line that it wrote: somebody that it has started may
/// hold its stderr open.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a thread has read of a worker's stderr.
#[derive(Clone)]
pub(crate) struct Tail {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    read: Mutex<Lines>,
    over: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: VecDeque<String>,
    over: bool,
}

impl Shared {
    fn read(&self) -> MutexGuard<'_, Lines> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tail {
    /// Keeps the last so many lines of what comes out of `pipe`, and passes all on to this process's stderr.
    pub(crate) fn of(pipe: PipeReader, lines: usize) -> Tail {
        let shared = Arc::new(Shared::default());
        let kept = shared.clone();
        let read = move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while (&mut pipe)
                .take(LINE_BYTES)
                .read_until(b'\n', &mut line)
                .is_ok_and(|bytes| bytes > 0)
            {
                let _ = std::io::stderr().write_all(&line);
                let mut kept = kept.read();
                if kept.lines.len() >= lines.max(1) {
                    kept.lines.pop_front();
                }
                let text = String::from_utf8_lossy(&line);
                kept.lines.push_back(text.trim_end().to_string());
                line.clear();
            }
            kept.read().over = true;
            kept.over.notify_all();
        };
        // Without the thread nothing is kept, and the worker finds its stderr closed.
        let _ = thread::Builder::new().name("multiproc-stderr".into()).spawn(read);
        Tail { shared }
    }

    /// The lines, once the worker has ended. Blocks for a moment.
    pub(crate) fn lines(&self) -> Vec<String> {
        let read = self.shared.read();
        let read = self.shared.over.wait_timeout_while(read, PATIENCE, |read| !read.over);
        read.unwrap_or_else(PoisonError::into_inner).0.lines.iter().cloned().collect()
    }
}
