//! Who decides, whatever becomes of the other process.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::actions::Actions;
use crate::admit::Line;
use crate::id::{ActionId, ApplicationId, DeviceRef, OperationId, TenantId};
use crate::limit::{
    Admission, DocumentedLimit, FailedLogins, Limiter, NamedDevices, Owners, QuotaSet, Refusal, Starts,
};
use crate::principal::{Scope, Subject};
use crate::proxy::Succession;
use crate::server::memory::Inherited;
use crate::source::{PolicyFiles, Problems, SourceFile};
use crate::time::Clock;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// What a process has that keeps its state in this folder, if in any.
fn estate(state: Option<&Path>) -> Estate {
    let state = state.map(|folder| Arc::new(StateFolder::open(folder).unwrap()));
    let keys = std::num::NonZeroU32::MAX;
    let (limiter, actions) = match &state {
        Some(folder) => {
            let memory = Inherited::read(folder, keys, &Clock::System).unwrap().start().unwrap();
            (memory.limiter, memory.actions)
        }
        None => (Limiter::new(), Actions::new(10)),
    };
    let line = Line { limiter, logins: FailedLogins::new(), actions, clock: Clock::System };
    Estate { line: Arc::new(line), state, succession: Arc::new(Succession::default()) }
}

fn action(number: u32) -> ActionId {
    ActionId::parse(&format!("action-{number}")).unwrap()
}

fn device(number: u32) -> DeviceRef {
    DeviceRef::parse(&format!("pc-{number}"))
}

/// A call that is held.
type Held<'h> = Pin<Box<dyn Future<Output = Result<Admission, Refusal<'h>>> + 'h>>;

fn poll<'h>(call: &mut Held<'h>) -> Poll<Result<Admission, Refusal<'h>>> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn caller() -> Subject {
    Subject { tenant: TenantId::from_u128(1), application: ApplicationId::from_u128(1), user: None }
}

fn read() -> OperationId {
    "read".parse().unwrap()
}

/// A limit of one call in 50 s, for which others wait.
fn one_at_a_time() -> QuotaSet {
    let text = "[[limit]]\nname = \"slow\"\noperations = \"all\"\nper = []\nwindows = [\"1 per 50s\"]\n\
                when_full = { wait = \"60s\", queue = 9 }\n";
    let mut files = PolicyFiles::default();
    files.insert(SourceFile::new("limits.toml", text));
    let (devices, starts) = (NamedDevices::None, Starts::Nothing);
    let read = DocumentedLimit { operation: read(), devices, starts, rates: Vec::new(), place: None };
    let mut problems = Problems::default();
    let set = QuotaSet::compile(&files, &[read], &Owners::default(), Clock::System.wall(), &mut problems);
    assert!(problems.is_empty());
    set
}

/// Gives as soon as somebody waits.
fn give(handover: &Handover, estate: &Estate) -> io::Result<Telling> {
    loop {
        match handover.give(estate) {
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) =>
            {
                std::thread::yield_now();
            }
            // The one that came before has not let go yet.
            Err(error) if error.to_string().contains("in use by another process") => std::thread::yield_now(),
            done => return done,
        }
    }
}

#[test]
fn listeners_and_all_that_counts_pass_to_whoever_waits_and_so_does_what_is_learned_later() {
    for keeps in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (state, folder) = (folder.path().join("state"), folder.path().join("made"));
        let state = keeps.then_some(state);
        let (gateway, admin) = (listener(), listener());
        let handover = Handover::prepare(&folder, &gateway, &admin).unwrap();
        let estate = estate(state.as_deref());
        let nobody = handover.give(&estate).unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound, "nobody waits");
        estate.line.actions.record(action(1), device(1));
        std::thread::scope(|scope| {
            let new = scope.spawn(|| {
                let (predecessor, listeners) = Predecessor::wait(&folder, state.as_deref()).unwrap();
                let read = |folder: &StateFolder| Actions::read(10, folder);
                let (actions, owned, legacy) = predecessor.relieve(read).unwrap();
                assert_eq!(owned.is_some(), keeps);
                let addresses = [listeners.gateway, listeners.admin].map(|it| it.local_addr().unwrap());
                (addresses, actions.in_memory(), owned, legacy)
            });
            let telling = give(&handover, &estate).unwrap();
            let (addresses, actions, _owned, legacy) = new.join().unwrap();
            assert_eq!(addresses, [gateway, admin].map(|it| it.local_addr().unwrap()));
            assert_eq!(actions.len(), 1);
            estate.line.actions.record(action(2), device(2));
            estate.line.actions.close();
            estate.line.limiter.open_actions().close();
            telling.finish();
            let (stream, _relay) = legacy.into_parts();
            let (to, heard) = std::sync::mpsc::channel();
            let take =
                move |name: &str, record: &[u8]| to.send((name.to_owned(), record.to_owned())).unwrap();
            let gone = Legacy::listen(stream, take).unwrap();
            let (name, record) = heard.recv().unwrap();
            actions.receive(&record);
            assert_eq!((name.as_str(), actions.len()), (Actions::NAME, 2));
            assert!(heard.recv().is_err(), "the old process is gone");
            while !*gone.borrow() {
                std::thread::yield_now();
            }
        });
        assert!(!folder.join(SOCKET).exists() && !folder.join(LENT).exists());
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}

#[test]
fn a_new_process_that_ends_before_it_decides_leaves_the_old_one_deciding() {
    // For the timers of the call that is held.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _within = runtime.enter();
    for keeps in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (state, folder) = (folder.path().join("state"), folder.path().join("made"));
        let state = keeps.then_some(state);
        let handover = Handover::prepare(&folder, &listener(), &listener()).unwrap();
        let estate = estate(state.as_deref());
        let (quotas, limiter, clock) = (one_at_a_time(), &estate.line.limiter, &estate.line.clock);
        let (subject, operation, scope) = (caller(), read(), Scope::default());
        let of = quotas.charges(&subject, &operation, &scope);
        let mut call: Held<'_> = Box::pin(limiter.acquire(&of, clock));
        let Poll::Ready(Ok(mut on_its_way)) = poll(&mut call) else { panic!("it is the first") };
        on_its_way.forwarded();
        let mut held: Held<'_> = Box::pin(limiter.acquire(&of, clock));
        assert!(poll(&mut held).is_pending());
        let turns = limiter.turns();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(Predecessor::wait(&folder, state.as_deref()).unwrap()));
            let error = give(&handover, &estate).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            // One that has been given everything, and cannot read it.
            let new = scope.spawn(|| {
                let (predecessor, _) = Predecessor::wait(&folder, state.as_deref()).unwrap();
                let broken =
                    |folder: &StateFolder| Err::<(), _>(JournalError::InUse(folder.path().to_owned()));
                predecessor.relieve(broken).unwrap_err();
            });
            let error = give(&handover, &estate).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            new.join().unwrap();
        });
        // It asks again, as the gateway has it do, and has the turn that it had: the call before it counts as it did.
        assert!(matches!(poll(&mut held), Poll::Ready(Err(Refusal::Ended))));
        let mut anew: Held<'_> = Box::pin(limiter.acquire(&of, clock));
        assert!(poll(&mut anew).is_pending());
        assert_eq!((limiter.turns(), limiter.held()), (turns, 1));
        drop((on_its_way, held, anew));
        assert_eq!(limiter.held(), 0);

        estate.line.actions.record(action(1), device(1));
        estate.line.actions.close();
        if let (Some(path), Some(folder)) = (&state, estate.state) {
            drop(folder);
            let again = Actions::read(10, &StateFolder::open(path).unwrap()).unwrap().in_memory();
            assert_eq!(again.len(), 1, "the old process goes on writing");
        }
    }
}

#[test]
fn two_processes_that_keep_their_state_in_different_places_do_not_follow_each_other() {
    let folders = tempfile::tempdir().unwrap();
    let (one, other, folder) =
        (folders.path().join("one"), folders.path().join("other"), folders.path().join("made"));
    drop(StateFolder::open(&other).unwrap());
    let handover = Handover::prepare(&folder, &listener(), &listener()).unwrap();
    for (old, new, said) in [
        (Some(&one), Some(&other), "is not the one that the running process has"),
        (Some(&one), None, "give the same with `--state`"),
        (None, Some(&other), "the running process keeps no state"),
    ] {
        let estate = estate(old.map(PathBuf::as_path));
        std::thread::scope(|scope| {
            let new = scope.spawn(|| Predecessor::wait(&folder, new.map(PathBuf::as_path)).unwrap_err());
            give(&handover, &estate).unwrap_err();
            let error = new.join().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        });
    }
}

#[test]
fn a_folder_that_is_open_to_others_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o755, 0o770, 0o701] {
        std::fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        let error = Handover::prepare(folder.path(), &listener(), &listener()).unwrap_err();
        assert!(error.to_string().contains("closed to others"), "{mode:o}: {error}");
        assert!(Predecessor::wait(folder.path(), None).is_err());
    }
}
