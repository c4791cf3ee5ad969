//! Deliberate protocol errors, to see that the tests find them.
//!
//! A build with `--cfg multiproc_mutants` can be broken in one of these ways, chosen by the variable
//! `MULTIPROC_MUTANT`; each names the stepping script that must find it. In any other build
//! [`mutant!`] is `false`, and nothing of this is left in the program.

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident: $script:literal),* $(,)?) => {
        /// A way in which the protocols can be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(dead_code)]
        pub(crate) enum Mutant { $($(#[$doc])* $name),* }

        /// Each by name, and the script that must find it.
        #[cfg(all(multiproc_mutants, feature = "testing"))]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $script)),*];

        #[cfg(multiproc_mutants)]
        fn named(name: &str) -> Option<Mutant> {
            [$((stringify!($name), Mutant::$name)),*]
                .into_iter()
                .find_map(|(known, mutant)| (known == name).then_some(mutant))
        }
    };
}

mutants! {
    // The queue of blocks.
    /// Recovery does not mark the blocks that cells name: what was sent goes with its sender.
    RingUnmarked: "queue/send-empty",
    /// Recovery does not finish what a dead receiver has begun to take.
    TakeUnfinished: "queue/recv-one",
    /// A cell is freed before its block has the new owner.
    CellFreedFirst: "queue/recv-full",
    /// The hint for senders moves on before the position is claimed.
    HintBeforeClaim: "queue/send-empty",
    /// Nobody finishes in the place of a stopped receiver.
    NobodyHelps: "queue/recv-full",
    /// Who finishes a lease makes a plain receive of it.
    LeaseFinishedAsTake: "lease/hold",
    /// Recovery does not tell that messages are to be received again.
    RetriesUntold: "lease/hold",
    /// A block keeps the names of what its last message carried.
    NamesKept: "queue/recv-handle",
    /// A cell is freed before it is known how many bytes were sent up to it.
    EndUnsettled: "slices/recv",
    // The queue whose cells hold the messages.
    /// Recovery leaves what a dead sender was writing.
    WriteUnskipped: "inline/send-empty",
    /// A cell says that it is full before the message is in it.
    FullBeforeMessage: "inline/send-later-lap",
    /// A receiver takes first and copies then.
    TakenBeforeCopy: "inline/recv-full",
    /// A sender does not pass over what a dead one has left.
    SkipUnpassed: "inline/send-over-skip",
    /// Nobody is woken for messages that stand in cells.
    PublishedUntold: "inline/send-batch",
    // Channels.
    /// An end does not keep its queue alive.
    EndUnreached: "channel/send-end",
    // Locks and signals.
    /// A lock is not taken from its dead owner.
    OwnerKept: "mutex/change",
    /// The next owner is not told of the death.
    DeathUntold: "mutex/hold",
    /// Who lets go of a lock wakes nobody.
    UnlockUntold: "mutex/change",
    /// The next owner of a lock that may be taken again goes on counting where the dead one stopped.
    DepthKept: "reentrant/wait-for-dead",
    /// Who reads does not look for a writer.
    WriterIgnored: "rwlock/read-beside-writer",
    /// Who writes does not look for readers.
    ReadersIgnored: "rwlock/write-beside-reader",
    /// The last reader to leave does not wake the writer.
    LastReaderUntold: "rwlock/end-read",
    /// Who waits at a condition variable lets go of the lock before it can be notified.
    AnnouncedLate: "condvar/wait",
    /// Recovery does not wake who waits at a condition variable.
    NotificationUntold: "condvar/notify-all",
    /// Recovery does not wake who waits for a semaphore to be raised.
    ReleaseUntold: "semaphore/release",
    /// The permits of the dead stay theirs.
    PermitsKept: "semaphore/permit",
    /// A death does not break a barrier.
    BarrierUnbroken: "barrier/waiting",
    /// A cell is full before its value is in it.
    FullBeforeValue: "once/set",
    /// Recovery does not wake who waits for an event.
    EventUntold: "event/set",
    /// Recovery goes on counting dead sleepers.
    SleepersKept: "inline/recv-waiting",
    // Values and sums.
    /// A value is written over the one that counts.
    ValueOverwritten: "values/update",
    /// The share of a dead participant is folded without a note of it.
    FoldUnnoted: "values/add",
    /// A dead participant's share stays.
    ShareKept: "values/add-to-base",
    /// A tally does not name the task that it counts.
    TaskUnnamed: "tally/commit",
    // Desks.
    /// Recovery does not publish the item that a tally names.
    CommitForgotten: "desk/commit",
    /// An item is done before it is counted.
    DoneBeforeCounted: "desk/commit",
    /// A message waits before it is in its tray.
    ReadyBeforeMessage: "desk/put",
    /// Who takes a message looks whether it is still there, and takes it then.
    LookedBeforeTaken: "desk/work",
    // Maps.
    /// A bucket stays claimed by the dead.
    ClaimKept: "map/insert-new",
    /// Recovery frees the buckets that the living have claimed, too.
    AnyClaimFreed: "map/insert-beside-dead",
    /// An entry can be found before it is whole.
    LiveBeforeEntry: "map/insert-new",
    /// A search ends before it has come to the new entry.
    ReachUnraised: "map/insert-new",
    /// Removing an entry hides those that are farther from their home.
    ReachCleared: "map/remove-before-another",
    /// Who is reading an entry does not find out that another has come in its place.
    VersionKept: "map/get",
    /// A value is written over the one that counts.
    ReplacedInPlace: "map/insert-over",
    /// What the values of a map name is not kept alive.
    ValuesUnreached: "map/insert-handle",
    // Objects and participants.
    /// An object can be reached before its maker is attached to it.
    LiveBeforeAttached: "catalog/create",
    /// What nobody reaches is not collected.
    Uncollected: "catalog/drop",
    /// The dead stay attached.
    AttachedKept: "catalog/create",
    /// What the dead were making or destroying stays as it is.
    HalfMadeKept: "catalog/create",
    /// A slot is free before what its participant held is.
    ReleasedFirst: "slots/leave",
}

/// Whether this is the error that was chosen.
#[cfg(multiproc_mutants)]
pub(crate) fn chosen(mutant: Mutant) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("MULTIPROC_MUTANT").ok()?;
        Some(named(&name).unwrap_or_else(|| panic!("there is no mutant {name}")))
    });
    *chosen == Some(mutant)
}

/// Whether this is the error that was chosen: never, in a build that is not made for it.
#[cfg(not(multiproc_mutants))]
#[inline(always)]
pub(crate) const fn chosen(_: Mutant) -> bool {
    false
}

/// Whether the protocol is to be broken in the way that the name says.
macro_rules! mutant {
    ($name:ident) => {
        crate::mutant::chosen(crate::mutant::Mutant::$name)
    };
}
pub(crate) use mutant;
