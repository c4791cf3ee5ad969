//! Workers' lines on the supervisor's own output, whether or not anybody reads it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use multiproc_sys::poll;

use super::escaped;
use crate::control::protocol::{LogLine, Stream};

/// The supervisor's output, and how many lines it did not take.
#[derive(Debug)]
pub(crate) struct Echo {
    streams: [OwnedFd; 2],
    dropped: u64,
}

impl Echo {
    pub(crate) fn new() -> io::Result<Echo> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Echo { streams: [stdout, io::stderr().as_fd().try_clone_to_owned()?], dropped: 0 })
    }

    /// Writes a line, unless that would block.
    pub(crate) fn write(&mut self, line: &LogLine) {
        let text = format!("{}:{} | {}", line.worker, line.slot, escaped(&line.text));
        let stream = &self.streams[usize::from(line.stream == Stream::Stderr)];
        if self.dropped > 0 {
            let told = format!("multiproc: {} lines were dropped here", self.dropped);
            if poll::write_line_now(stream, told.into_bytes()) {
                self.dropped = 0;
            }
        }
        if self.dropped > 0 || !poll::write_line_now(stream, text.into_bytes()) {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::super::line;
    use super::*;

    #[test]
    fn echo_that_nobody_reads_drops_and_says_so_later() {
        let (mut read, write) = io::pipe().unwrap();
        let stderr = io::stderr().as_fd().try_clone_to_owned().unwrap();
        let mut echo = Echo { streams: [write.into(), stderr], dropped: 0 };
        // More than any pipe holds by default.
        for _ in 0..40 {
            echo.write(&line(0, &"x".repeat(4096)));
        }
        let dropped = echo.dropped;
        assert!(dropped > 0);
        let mut buffer = vec![0; 1 << 20];
        let _ = read.read(&mut buffer).unwrap();
        echo.write(&line(7, "again"));
        let len = read.read(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..len]);
        assert!(text.contains(&format!("{dropped} lines were dropped")), "{text}");
        assert!(text.ends_with("web:7 | again\n"), "{text}");
    }
}
