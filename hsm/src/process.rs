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
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::configuration::Configuration;
use crate::crew::{Crew, Place};
use crate::doorman::{self, KNOCK, Knock};
use crate::error::HsmError;
use crate::frame::Frame;
use crate::logins::{self, Door, Ending, Leave, Login, MayTry, PinTag};
use crate::message::{self, Answer, Verb};
use crate::module::ModuleHash;

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program, normally this one (`/proc/self/exe`).
    pub program: PathBuf,
    /// Arguments that make it call [`crate::worker::run`]. Nothing secret and nothing of a tenant belongs here.
    pub arguments: Vec<OsString>,
    /// The worker's whole environment: what the module needs, such as `SOFTHSM2_CONF`. Nothing is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// How many run at once, of all that share it.
    pub crew: Arc<Crew>,
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
    /// Who is asked before its PIN is tried, where somebody has just said it.
    may_try: Option<MayTry>,
    /// Module and serial number that its configuration pins, as far as it does.
    pinned: OnceLock<(Option<ModuleHash>, Option<String>)>,
    /// The one token it speaks of.
    door: OnceLock<Door>,
    /// The login that it is at, and since when.
    login: Mutex<Option<(Login, Instant)>>,
    /// Its place among those that run, until it is reaped.
    place: Mutex<Option<Place>>,
    /// When it last asked to log in, or said how that ended.
    knocked: Mutex<Option<Instant>>,
}

struct Waiting {
    since: Instant,
    /// When the request counts as hung.
    hung_at: Instant,
    answer: SyncSender<Result<Answer, HsmError>>,
}

/// So many times the limit a start may take in all, however long the line at its token is.
const STARTS: u32 = 10;
/// Before the second look whether a killed process has ended; before each further one twice as long.
const REAP: Duration = Duration::from_millis(1);
/// How long a request may wait for room in the socket's buffer: a worker always reads, unless it is stopped.
const WRITE: Duration = Duration::from_millis(500);

impl Worker {
    /// Starts the program. `gone` is called once, from another thread, when it has ended and was reaped.
    pub(crate) fn start(
        launch: &Launch,
        place: Place,
        may_try: Option<MayTry>,
        gone: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Self>, HsmError> {
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
            may_try,
            pinned: OnceLock::new(),
            door: OnceLock::new(),
            login: Mutex::default(),
            place: Mutex::new(Some(place)),
            knocked: Mutex::default(),
        });
        let reading = Arc::clone(&worker);
        let thread = Builder::new().name("hsm-reader".to_owned()).stack_size(256 << 10).spawn(move || {
            while let Ok(Some(frame)) = Frame::read(&mut reader) {
                let is_known =
                    if frame.number == KNOCK { reading.knocked(&frame).is_ok() } else { reading.deliver(&frame) };
                if !is_known {
                    break;
                }
            }
            reading.kill();
            reading.reap();
            // A login that it was at did not answer.
            drop(reading.login().take());
            drop(reading.place().take());
            gone();
        });
        if let Err(error) = thread {
            worker.kill();
            worker.reap();
            return Err(failed(error));
        }
        Ok(worker)
    }

    /// Sends the configuration and waits until module, token and login stand: each of what comes before the login, the login, and
    /// what comes after it has so long. One login must not be cut short because the module was slow before it.
    pub(crate) fn configure(&self, configuration: &Configuration, each: Duration) -> Result<Answer, HsmError> {
        let (json, pin) = configuration.to_wire()?;
        // Before the worker can knock.
        let _ = self.pinned.set((configuration.module_sha256, configuration.token.serial.clone()));
        let secrets = Zeroizing::new([&pin_key()?[..], pin].concat());
        let answered = self.send(&Verb::Configure, [&json, &secrets], each)?;
        let last = Instant::now() + each.saturating_mul(STARTS);
        loop {
            // Without a hung request it was answered just now.
            let hung_at = self.hung_at(each).unwrap_or_else(|| Instant::now() + WRITE);
            match answered.recv_timeout(hung_at.min(last).saturating_duration_since(Instant::now())) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if last <= Instant::now() || self.hung_at(each).is_some_and(|at| at <= Instant::now()) {
                return Err(HsmError::DeadlineExceeded);
            }
        }
    }

    /// Asks and waits at most `wait`, which may be shorter than `limit`, after which the request counts as hung.
    pub(crate) fn ask(
        &self,
        verb: &Verb,
        fields: [&[u8]; 2],
        wait: Duration,
        limit: Duration,
    ) -> Result<Answer, HsmError> {
        let answered = self.send(verb, fields, limit)?;
        // An entry that is left behind is what shows the hung call to the supervisor.
        match answered.recv_timeout(wait.min(limit)) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(HsmError::DeadlineExceeded),
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }

    fn send(
        &self,
        verb: &Verb,
        fields: [&[u8]; 2],
        limit: Duration,
    ) -> Result<Receiver<Result<Answer, HsmError>>, HsmError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = message::request(number, verb, fields[0], fields[1])?;
        let (answer, answered) = sync_channel(1);
        let since = Instant::now();
        self.waiting().insert(number, Waiting { since, hung_at: since + limit, answer });
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
        Ok(answered)
    }

    /// When the first request counts as hung, whether or not its caller still waits. While the worker logs in none does for as long as
    /// a start may take: a login that is cut short may count at the token. What waited for its turn to log in, or for the login,
    /// has as long again after it.
    pub(crate) fn hung_at(&self, connect: Duration) -> Option<Instant> {
        let knocked = *self.knocked.lock().unwrap_or_else(PoisonError::into_inner);
        let hung_at = |waiting: &Waiting| {
            let waited = knocked.filter(|knocked| waiting.since <= *knocked).map(|knocked| knocked + connect);
            waited.map_or(waiting.hung_at, |waited| waited.max(waiting.hung_at))
        };
        let first = self.waiting().values().map(hung_at).min()?;
        let login = self.login().as_ref().map(|(_, since)| *since + connect);
        Some(login.map_or(first, |login| login.max(first)))
    }

    /// Whether a request is under way.
    pub(crate) fn is_asked(&self) -> bool {
        !self.waiting().is_empty()
    }

    /// It answers as it should.
    pub(crate) fn is_proven(&self) {
        if let Some(place) = &*self.place() {
            place.is_proven();
        }
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

    /// Waits for its end without the lock: a process that no signal ends, as in a driver that hangs, keeps nobody who kills it waiting.
    fn reap(&self) {
        let mut pause = REAP;
        while matches!(self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait(), Ok(None)) {
            std::thread::sleep(pause);
            pause = (pause * 2).min(WRITE);
        }
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

    /// Answers a worker that wants to log in, or hears how its login ended.
    fn knocked(&self, frame: &Frame) -> Result<(), HsmError> {
        let knock = serde_json::from_slice(frame.field(0));
        *self.knocked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        match knock.map_err(|_| HsmError::Protocol("no knock of a worker".to_owned()))? {
            Knock::MayLogIn(door, tag, is_counted) => {
                // A module has its worker's memory: it does not speak for other tenants' tokens.
                let (module, serial) = self.pinned.get().cloned().unwrap_or_default();
                let is_own = module.is_none_or(|module| module == door.module)
                    && serial.is_none_or(|serial| serial == door.serial)
                    && *self.door.get_or_init(|| door.clone()) == door;
                if !is_own {
                    return Err(HsmError::Protocol("a login at another token".to_owned()));
                }
                let (leave, login) = self.leave(door, tag, is_counted);
                *self.login() = login.map(|login| (login, Instant::now()));
                let answer = doorman::frame(&leave)?;
                answer.write(&mut *self.writer.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|_| ended())
            }
            Knock::Ended(ending) => {
                let login = self.login().take().map(|(login, _)| login);
                login.ok_or_else(|| HsmError::Protocol("a login without leave".to_owned()))?.end(ending);
                Ok(())
            }
        }
    }

    /// Leave to log in. What somebody has just said is counted before it is tried, in its turn: no second one is between.
    fn leave(&self, door: Door, tag: PinTag, is_counted: bool) -> (Leave, Option<Login>) {
        let (leave, login) = logins::ask(door, tag, (self.may_try.is_some(), is_counted));
        let Some(login) = login else { return (leave, None) };
        let refused = match (login.guesses_at(), &self.may_try) {
            (Some(serial), Some(may_try)) => may_try(serial).err(),
            _ => None,
        };
        match refused {
            Some(why) => {
                login.end(Ending::Neither);
                (Leave::Later(why), None)
            }
            None => (leave, Some(login)),
        }
    }

    fn login(&self) -> MutexGuard<'_, Option<(Login, Instant)>> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key under which this process knows PINs again: random, of this process, kept nowhere.
fn pin_key() -> Result<&'static [u8; 32], HsmError> {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|_| HsmError::Unavailable("no randomness from the system".to_owned()))?;
    Ok(KEY.get_or_init(|| key))
}

fn ended() -> HsmError {
    HsmError::Unavailable("the worker process ended".to_owned())
}
