//! What the machine spent, from /proc: CPU time and memory of processes, load, stolen time, and how fast the disk is.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Clock ticks of /proc in a second: the same on every Linux that programs see.
const TICKS: f64 = 100.0;

/// CPU seconds that a process has used.
pub fn cpu(pid: u32) -> f64 {
    stat(pid).map_or(0.0, |fields| (fields[11] + fields[12]) / TICKS)
}

/// CPU seconds that a process, its children and the children it has buried have used: PostgreSQL is such a family.
pub fn cpu_of_family(parent: u32) -> f64 {
    let own = stat(parent).map_or(0.0, |fields| fields[11..15].iter().sum::<f64>() / TICKS);
    own + children(parent).into_iter().map(cpu).sum::<f64>()
}

/// CPU seconds that this thread has used, to the nanosecond.
pub fn cpu_of_this_thread() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// The processes that a process started.
pub fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|pid| stat(*pid).is_some_and(|fields| fields[1] == f64::from(parent))).collect()
}

/// The process that started a process.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "process ids")]
pub fn parent(pid: u32) -> u32 {
    stat(pid).map_or(0, |fields| fields[1] as u32)
}

/// The fields of /proc/PID/stat behind the name; the state, a letter, is 0.
fn stat(pid: u32) -> Option<Vec<f64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<f64> = text.rsplit_once(") ")?.1.split(' ').map(|f| f.trim().parse().unwrap_or(0.0)).collect();
    (fields.len() > 15).then_some(fields)
}

/// Resident memory of a process in MB.
pub fn memory(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Gigabytes of the machine's memory that are in use and could not be had.
pub fn memory_in_use() -> f64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(0.0)
    };
    (kilobytes("MemTotal:") - kilobytes("MemAvailable:")) / 1e6
}

/// Bytes that a process had written to its disk.
pub fn written(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0.0)
}

/// The machine at one moment.
#[derive(Clone, Copy)]
pub struct Machine {
    all: f64,
    stolen: f64,
}

impl Machine {
    /// Now.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or(0.0);
        Self { all: ticks.iter().sum(), stolen: at(7) }
    }

    /// Of a hundred, how much the host gave to others since then.
    pub fn stolen_since(self) -> f64 {
        let now = Self::now();
        (now.stolen - self.stolen) / (now.all - self.all).max(1.0) * 100.0
    }
}

/// The load average of the last minute.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// How many times a second the disk under a folder overwrites 8 KiB durably.
pub fn fdatasync_rate(folder: &Path, length: Duration) -> f64 {
    let path = folder.join("fdatasync");
    let file = fs::File::create(&path).unwrap();
    file.write_all_at(&[7; 8192], 0).unwrap();
    file.sync_all().unwrap();
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < length {
        file.write_all_at(&[7; 8192], 0).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    let _ = fs::remove_file(path);
    rate
}
