//! The only crate of the workspace that calls the kernel.
//!
//! Everything above it speaks of deadlines, mappings and processes; what a system call is named,
//! which crate wraps it and which errors it may return is known here alone. [`nix`] serves where
//! it has the call; `rustix` where it has not (futex, pidfd); `libc` for the one `clone`.
//!
//! | module | its calls |
//! |---|---|
//! | [`clock`] | `clock_gettime(CLOCK_MONOTONIC)` |
//! | [`descriptor`] | `fcntl(F_SETFD)` |
//! | [`futex`] | `FUTEX_WAIT_BITSET`, `FUTEX_WAKE`, never the private forms |
//! | [`lock`] | `fcntl(F_SETLK)`, `flock` |
//! | [`memory`] | `memfd_create`, `mmap`, `fallocate`, seals, memory and file size limits |
//! | [`host`] | boot id, pid namespace, page size, processors |
//! | [`image`] | `dl_iterate_phdr` |
//! | [`pidfd`] | `pidfd_open`, `pidfd_send_signal`, `waitid(P_PIDFD)` |
//! | [`poll`] | `poll`, `epoll`, `eventfd`, `timerfd`, `inotify`, `pipe` |
//! | [`process`] | `prctl`, `killpg`, and which file this process executes |
//! | [`signals`] | `pthread_sigmask` |
//! | [`socket`] | `socketpair`, `sendmsg`, `recvmsg`, `bind`, `accept`, `connect`, who is the peer |
//! | [`start`] | `clone(CLONE_VM \| CLONE_VFORK \| CLONE_PIDFD)` and `execve`, or `fork`: how a child begins |

pub mod clock;
pub mod descriptor;
pub mod futex;
pub mod host;
pub mod image;
pub mod lock;
pub mod memory;
pub mod pidfd;
pub mod poll;
pub mod process;
pub mod signals;
pub mod socket;
pub mod start;
