//! A start that fails says why, and leaves nothing behind.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::*;

fn assert_fails(program: &CStr, base: &Start<'_>, step: Step, errno: c_int) {
    let error = failure(program, base);
    assert_eq!((error.step, error.errno), (step, errno), "{error}");
}

#[test]
fn start_of_what_cannot_be_executed_tells_why() {
    alone(|| {
        let directory = Directory::new("failure");
        let binary = directory.file("binary", "neither ELF nor script", 0o755);
        let data = directory.file("data", "#!/bin/sh\n", 0o644);
        let orphan = directory.file("orphan", "#!/nowhere/interpreter\n", 0o755);
        let (beneath, long) = (c_string(directory.path("data/x")), c_string("x".repeat(300)));
        let cases: [(&CStr, c_int); 9] = [
            (c"./nope", libc::ENOENT),
            (c"no-such-program", libc::ENOENT),
            (c"", libc::ENOENT),
            (&orphan, libc::ENOENT),
            (&binary, libc::ENOEXEC),
            (&data, libc::EACCES),
            (c"/", libc::EACCES),
            (&beneath, libc::ENOTDIR),
            (&long, libc::ENAMETOOLONG),
        ];
        for (program, errno) in cases {
            assert_fails(program, &plain(), Step::Exec, errno);
        }
        let shown = failure(c"./nope", &plain()).to_string();
        assert_eq!(shown, r#"exec of "./nope" failed: No such file or directory (os error 2)"#);
    });
}

#[test]
fn start_with_a_failing_step_names_it() {
    let nowhere = Start { directory: Some(c"/nowhere"), ..plain() };
    assert_fails(c"/bin/true", &nowhere, Step::Directory, libc::ENOENT);

    let stdout = io::stdout();
    let kept = Start { keep: &[stdout.as_fd()], stdout: Stdio::Null, ..plain() };
    assert_fails(c"/bin/true", &kept, Step::Prepare, libc::EINVAL);

    let with = |arguments: &[CString]| {
        let error = start(&Start::new(Program::Path(c"/bin/true"), arguments, &[])).unwrap_err();
        (error.step, error.errno)
    };
    assert_eq!(with(&[]), (Step::Prepare, libc::EINVAL));
    assert_eq!(with(&strings(&["x".repeat(1 << 20)])), (Step::Exec, libc::E2BIG));
}

#[test]
fn start_without_descriptors_to_spare_names_the_step() {
    alone(|| {
        let null = Start { stdin: Stdio::Null, stdout: Stdio::Null, ..plain() };
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let lowest = File::open("/dev/null").unwrap().as_raw_fd() as u64;
        for (spare, step) in [(0, Step::Clone), (1, Step::Stdio), (2, Step::Stdio)] {
            setrlimit(Resource::RLIMIT_NOFILE, lowest + spare, most).unwrap();
            assert_fails(c"/bin/true", &null, step, libc::EMFILE);
        }
        assert!(!has_children());
    });
}

#[test]
fn start_that_fails_leaves_nothing_behind() {
    alone(|| {
        let mappings = || fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let before = (descriptors(), mappings());
        let base = Start { new_session: true, die_with_parent: true, ..plain() };
        for _ in 0..100 {
            assert_fails(c"./nope", &base, Step::Exec, libc::ENOENT);
            let nowhere = Start { directory: Some(c"/nowhere"), ..base };
            assert_fails(c"/bin/true", &nowhere, Step::Directory, libc::ENOENT);
        }
        assert!(!has_children());
        let (descriptors, mappings) = (descriptors(), mappings());
        assert_eq!(descriptors, before.0);
        // The allocator may have asked for a few.
        assert!(mappings < before.1 + 20, "{mappings} {}", before.1);
    });
}
