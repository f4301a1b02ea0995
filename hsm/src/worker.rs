//! The process that loads a vendor's module: started by exec, fed through a socket, and nothing else. It has no database and opens no
//! connection of its own; what the module opens is the vendor's.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroizing;

use crate::canary::Canary;
use crate::check;
use crate::configuration::Configuration;
use crate::destruction;
use crate::doorman::{Doorman, KNOCK};
use crate::error::HsmError;
use crate::failure::{Fault, Moment};
use crate::frame::Frame;
use crate::kek;
use crate::kek_kind::KekKind;
use crate::message::{self, Answer, Making, Verb};
use crate::pool::Pool;
use crate::profile::{LONGEST_CONTEXT, LONGEST_WRAPPED, ProbeReport, probe};
use crate::scratch::Scratch;
use crate::session::{Live, allows_sha1};

/// Requests waiting for a lane. The host lets fewer be under way, so a full queue never holds the reader.
const QUEUE: usize = 256;
/// Descriptors a worker may have open: a module's connections and files.
const DESCRIPTORS: u64 = 256;

/// Serves the host at the other end of standard input until it closes it. Call it before any thread exists and before anything was written
/// to standard output; it returns when the host is gone, and the process must end then.
///
/// Standard input must be the socket that [`crate::Host`] made. Standard input and output are replaced by `/dev/null`, because a vendor's
/// module may print.
#[must_use]
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.peer_addr()?;
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    // Neither a core file nor a debugger of the same user sees the PIN or a data key.
    at_most(Resource::Core, 0)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    at_most(Resource::Nofile, DESCRIPTORS)?;
    rustix::thread::set_no_new_privs(true)?;
    let Some(first) = Frame::read(&mut socket)? else { return Ok(()) };
    let writer = Arc::new(Mutex::new(socket.try_clone()?));
    let (queue, jobs) = sync_channel(QUEUE);
    let (told, answers) = sync_channel(1);
    // Reads from now on, so that a host that is gone ends a worker whose module hangs, in a lane or before there is one.
    let reader = spawn("reader", move || read(&mut socket, &queue, &told))?;
    let pool = connect(&first, &writer, answers).map(Arc::new);
    let connected = pool.as_ref().map_err(Clone::clone).and_then(|pool| pool.status());
    let lanes = connected.as_ref().map_or(0, |status| status.sessions);
    reply(&writer, &message::answer(first.number, &connected.and_then(|status| Answer::of(&status))))?;
    drop(first);
    if let Ok(pool) = pool {
        start_lanes(lanes, jobs, &pool, &writer)?;
    }
    // It ends the process, and with it lanes that may hang for ever.
    let _ = reader.join();
    Ok(())
}

fn read(socket: &mut UnixStream, queue: &SyncSender<Frame>, told: &SyncSender<Frame>) {
    while let Ok(Some(frame)) = Frame::read(socket) {
        // Without lanes the host was told why, and kills this process; an answer that nobody asked for is dropped.
        let _ = if frame.number == KNOCK { told.try_send(frame).is_ok() } else { queue.send(frame).is_ok() };
    }
    std::process::exit(0)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(1 << 20).spawn(work)
}

fn connect(frame: &Frame, writer: &Arc<Mutex<UnixStream>>, answers: Receiver<Frame>) -> Result<Pool, HsmError> {
    let (Verb::Configure, Some((key, pin))) = (message::verb(frame)?, frame.field(2).split_first_chunk()) else {
        return Err(HsmError::Protocol("the first request configures".to_owned()));
    };
    let configuration = Configuration::from_wire(frame.field(1), pin)?;
    at_most(Resource::As, configuration.memory_bytes)
        .map_err(|_| HsmError::Configuration("the memory limit cannot be set".to_owned()))?;
    let doorman = Doorman { key: *key, writer: Arc::clone(writer), answers: Mutex::new(answers) };
    Ok(Pool::new(configuration, doorman))
}

/// Lowers a limit for good; one that is lower already stays.
fn at_most(resource: Resource, most: u64) -> io::Result<()> {
    let most = Some(getrlimit(resource).maximum.map_or(most, |is| is.min(most)));
    Ok(setrlimit(resource, Rlimit { current: most, maximum: most })?)
}

fn start_lanes(
    lanes: usize,
    jobs: Receiver<Frame>,
    pool: &Arc<Pool>,
    writer: &Arc<Mutex<UnixStream>>,
) -> io::Result<()> {
    let jobs = Arc::new(Mutex::new(jobs));
    for lane in 0..lanes {
        let (pool, writer, jobs) = (Arc::clone(pool), Arc::clone(writer), Arc::clone(&jobs));
        spawn(&format!("lane-{lane}"), move || {
            while let Some(frame) = next(&jobs) {
                // A panic is a bug of ours or a module's callback gone wrong: a fresh process is the honest answer.
                let Ok(result) = catch_unwind(AssertUnwindSafe(|| answer(lane, &frame, &pool))) else {
                    std::process::exit(70)
                };
                if reply(&writer, &message::answer(frame.number, &result)).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(())
}

fn next(jobs: &Mutex<Receiver<Frame>>) -> Option<Frame> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn reply(writer: &Mutex<UnixStream>, frame: &Frame) -> io::Result<()> {
    frame.write(&mut *writer.lock().unwrap_or_else(PoisonError::into_inner))
}

fn answer(lane: usize, frame: &Frame, pool: &Pool) -> Result<Answer, HsmError> {
    let (first, second) = (frame.field(1), frame.field(2));
    if first.len() > LONGEST_WRAPPED || second.len() > LONGEST_CONTEXT {
        return Err(HsmError::Protocol("a field is too long".to_owned()));
    }
    match message::verb(frame)? {
        Verb::Configure => Err(HsmError::Protocol("configured already".to_owned())),
        Verb::Wrap(kek) => {
            let key = first.try_into().map_err(|_| HsmError::Protocol("a data key has 32 bytes".to_owned()))?;
            let wrapped = pool.run(lane, Moment::Wrap, &kek, |place| kek.profile.wrap_checked(place, key, second))?;
            Ok(Answer { json: Vec::new(), bytes: Zeroizing::new(wrapped) })
        }
        Verb::Unwrap(kek) => {
            let key = pool.run(lane, Moment::Unwrap, &kek, |place| kek.profile.unwrap(place, first, second))?;
            Ok(Answer { json: Vec::new(), bytes: Zeroizing::new(key.to_vec()) })
        }
        Verb::MakeCanary(kek) => Answer::of(&pool.run(lane, Moment::Wrap, &kek, |place| Canary::make(&kek, place))?),
        Verb::AskCanary(canary) => Answer::of(&pool.ask(lane, &canary)?),
        Verb::Look(canary) => Answer::of(&destruction::look(pool, lane, &canary)?),
        Verb::Status => Answer::of(&pool.status()?),
        Verb::Watch(canaries) => {
            pool.watch(canaries);
            Ok(Answer::default())
        }
        Verb::Probe(selector) => {
            let found =
                pool.with_session(Moment::Wrap, |live| probe_kek(live, lane, &selector, pool.configuration()))?;
            Answer::of(&found)
        }
        Verb::ProbeKind(kind) => {
            let found = pool.with_session(Moment::Wrap, |live| probe_kind(live, lane, kind, pool.configuration()))?;
            Answer::of(&found)
        }
        Verb::Describe(selector) => Answer::of(&pool.with_session(Moment::Wrap, |live| {
            let session = live.session(lane);
            live.find(&session, &selector)?.kek.attributes(&session)
        })?),
        Verb::CreateKek(selector, kind) => {
            let making = pool.with_session(Moment::Wrap, |live| {
                let session = live.session(lane);
                kek::refuse_taken(&session, &selector)?;
                // Not repeated after a failure: the first attempt may have done it.
                Ok(kek::generate(&session, &selector, kind))
            });
            Answer::of(&match making {
                Ok(made) => Making::Begun(made.map_err(|fault| fault.into_error(Moment::Wrap).to_wire())),
                Err(error) => Making::NotBegun(error.to_wire()),
            })
        }
        Verb::DestroyKek(selector, canary) => {
            Answer::of(&destruction::destroy(pool, lane, &selector, canary.as_ref())?)
        }
        Verb::Check(options) => Answer::of(&check::run(pool, &options)?),
    }
}

/// Finds the profile that a key of this kind would do.
fn probe_kind(live: &Live, lane: usize, kind: KekKind, configuration: &Configuration) -> Result<ProbeReport, Fault> {
    let session = live.session(lane);
    let scratch = match kind {
        KekKind::Aes256 => Scratch::aes(&live.module, &session)?,
        KekKind::Rsa(_) => Scratch::rsa(&live.module, &session)?,
    };
    probe(scratch.place(), Some(scratch.place()), allows_sha1(configuration, &live.token))
}

/// Finds the profile to pin.
fn probe_kek(
    live: &Live,
    lane: usize,
    selector: &crate::uri::KekSelector,
    configuration: &Configuration,
) -> Result<ProbeReport, Fault> {
    let session = live.session(lane);
    let place = live.find(&session, selector)?;
    let scratch = Scratch::aes(&live.module, &session).ok();
    probe(place, scratch.as_ref().map(Scratch::place), allows_sha1(configuration, &live.token))
}
