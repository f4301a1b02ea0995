//! One worker process as its host sees it: started by exec, spoken to with deadlines, killed and reaped. When to start the next is in `host`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::configuration::Configuration;
use crate::error::HsmError;
use crate::frame::Frame;
use crate::message::{self, Answer, Verb};

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program, normally this one (`/proc/self/exe`).
    pub program: PathBuf,
    /// Arguments that make it call [`crate::worker::run`]. Nothing secret and nothing of a tenant belongs here.
    pub arguments: Vec<OsString>,
    /// The worker's whole environment: what the module needs, such as `SOFTHSM2_CONF`. Nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
}

/// A running worker. Dropping the last reference kills it.
pub(crate) struct Worker {
    child: Mutex<Child>,
    pub(crate) pid: u32,
    socket: UnixStream,
    writer: Mutex<UnixStream>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
    dead: AtomicBool,
}

struct Waiting {
    /// When the request counts as hung.
    hung_at: Instant,
    answer: SyncSender<Result<Answer, HsmError>>,
}

/// How long a request may wait for room in the socket's buffer: a worker always reads, unless it is stopped.
const WRITE: Duration = Duration::from_millis(500);

impl Worker {
    /// Starts the program. `gone` is called once, from another thread, when it has ended and was reaped.
    pub(crate) fn start(launch: &Launch, gone: impl FnOnce() + Send + 'static) -> Result<Arc<Self>, HsmError> {
        let failed = |e: io::Error| HsmError::Unavailable(format!("the worker cannot be started: {}", e.kind()));
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_write_timeout(Some(WRITE)).map_err(failed)?;
        let writer = ours.try_clone().map_err(failed)?;
        let mut reader = ours.try_clone().map_err(failed)?;
        let child = Command::new(&launch.program)
            .args(&launch.arguments)
            .env_clear()
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            // Not in the terminal's group: an interrupt ends the vault first, which ends its workers.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let pid = child.id();
        let worker = Arc::new(Self {
            child: Mutex::new(child),
            pid,
            socket: ours,
            writer: Mutex::new(writer),
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            dead: AtomicBool::new(false),
        });
        let reading = Arc::clone(&worker);
        let thread = Builder::new().name("hsm-reader".to_owned()).stack_size(256 << 10).spawn(move || {
            while let Ok(Some(frame)) = Frame::read(&mut reader) {
                if !reading.deliver(&frame) {
                    break;
                }
            }
            reading.kill();
            reading.reap();
            gone();
        });
        if let Err(error) = thread {
            worker.kill();
            worker.reap();
            return Err(failed(error));
        }
        Ok(worker)
    }

    /// Sends the configuration and waits until module, token and login stand.
    pub(crate) fn configure(&self, configuration: &Configuration, wait: Duration) -> Result<Answer, HsmError> {
        let (json, pin) = configuration.to_wire()?;
        self.ask(&Verb::Configure, [&json, pin], wait, wait)
    }

    /// Asks and waits at most `wait`, which may be shorter than `limit`, after which the request counts as hung.
    pub(crate) fn ask(
        &self,
        verb: &Verb,
        fields: [&[u8]; 2],
        wait: Duration,
        limit: Duration,
    ) -> Result<Answer, HsmError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = message::request(number, verb, fields[0], fields[1])?;
        let (answer, answered) = sync_channel(1);
        self.waiting().insert(number, Waiting { hung_at: Instant::now() + limit, answer });
        // Looked at after the insertion: the reader marks the worker dead before it empties the map.
        if self.dead.load(Ordering::SeqCst) {
            self.waiting().remove(&number);
            return Err(ended());
        }
        let written = frame.write(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner));
        if written.is_err() {
            self.waiting().remove(&number);
            self.kill();
            return Err(ended());
        }
        // An entry that is left behind is what shows the hung call to the supervisor.
        match answered.recv_timeout(wait.min(limit)) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(HsmError::DeadlineExceeded),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    /// When the first request counts as hung, whether or not its caller still waits.
    pub(crate) fn hung_at(&self) -> Option<Instant> {
        self.waiting().values().map(|waiting| waiting.hung_at).min()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Kills the process; the reader reaps it.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        // It may have ended by itself, and it is not reaped before this lock is given back: the signal hits no other process.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.waiting().clear();
    }

    fn reap(&self) {
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    }

    /// False if the frame belongs to no request.
    fn deliver(&self, frame: &Frame) -> bool {
        match self.waiting().remove(&frame.number) {
            Some(waiting) => {
                // Its caller may have left: the answer is dropped, and wiped.
                let _ = waiting.answer.send(message::result(frame));
                true
            }
            None => false,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended() -> HsmError {
    HsmError::Unavailable("the worker process ended".to_owned())
}
