//! The standard streams.

use super::*;

/// What the descriptors 0, 1 and 2 of a child refer to.
fn streams(request: &Start<'_>) -> Vec<String> {
    let output = Output::new(c"report");
    let number = output.0.as_raw_fd();
    // The shell's own: it may lend another 1 to those that it starts.
    let script = format!(r#"cd /proc/$$/fd; seen=$(readlink 0 1 2); echo "$seen" >>{number}"#);
    let (arguments, keep) = (strings(&["sh", "-c", &script]), [output.0.as_fd()]);
    let program = Program::Path(c"sh");
    let exit = exit_of(&Start { program, arguments: &arguments, keep: &keep, ..*request });
    assert_eq!(exit, Exit::Code(0));
    output.text().lines().map(str::to_owned).collect()
}

#[test]
fn start_redirects_the_standard_streams() {
    let (one, two) = (Output::new(c"one"), Output::new(c"two"));
    let zero = File::open("/dev/zero").unwrap();
    let (stdin, stdout, stderr) = (Stdio::Fd(zero.as_fd()), one.stdio(), two.stdio());
    let request = Start { stdin, stdout, stderr, ..plain() };
    assert_eq!(streams(&request), ["/dev/zero", "/memfd:one (deleted)", "/memfd:two (deleted)"]);
    let (stdin, stdout, stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
    assert_eq!(streams(&Start { stdin, stdout, stderr, ..plain() }), ["/dev/null"; 3]);
}

#[test]
fn start_takes_the_standard_streams_from_one_another() {
    alone(|| {
        // What `alone` has given us.
        let own = ["/dev/null", "/memfd:stdout (deleted)", "/memfd:stderr (deleted)"];
        assert_eq!(streams(&plain()), own);
        let (zero, one, two) = (io::stdin(), io::stdout(), io::stderr());
        let rotated = Start {
            stdin: Stdio::Fd(one.as_fd()),
            stdout: Stdio::Fd(two.as_fd()),
            stderr: Stdio::Fd(zero.as_fd()),
            ..plain()
        };
        assert_eq!(streams(&rotated), [own[1], own[2], own[0]]);
    });
}

#[test]
fn start_inherits_a_standard_stream_that_is_marked_to_be_closed() {
    alone(|| {
        fcntl_setfd(io::stdin(), FdFlags::CLOEXEC).unwrap();
        assert_eq!(streams(&plain())[0], "/dev/null");
    });
}

#[test]
fn start_redirects_a_standard_stream_that_is_closed() {
    alone(|| {
        // SAFETY: nobody in this process uses its standard input.
        assert_eq!(unsafe { libc::close(0) }, 0);
        let (zero, stderr) = ("/dev/zero", "/memfd:stderr (deleted)");
        // What the child opens, or copies, first lies at 0.
        let two = io::stderr();
        let request = Start { stdin: Stdio::Fd(two.as_fd()), stdout: Stdio::Null, ..plain() };
        assert_eq!(streams(&request), [stderr, "/dev/null", stderr]);
        // A source of another stream lies there.
        let lowest = File::open(zero).unwrap();
        assert_eq!(lowest.as_raw_fd(), 0);
        let stdout = Stdio::Fd(lowest.as_fd());
        let request = Start { stdin: Stdio::Null, stdout, ..plain() };
        assert_eq!(streams(&request), ["/dev/null", zero, stderr]);
    });
}
