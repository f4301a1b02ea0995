//! What the operating system says of this process, under the names that every exporter uses.

use super::text::{Kind, Text};

/// Clock ticks of `/proc/self/stat` in a second: fixed on Linux towards user space.
const TICKS: f64 = 100.0;

/// Writes memory, open files, processor time and the start. What cannot be read is left out.
pub(super) fn write(text: &mut Text, started: u64) {
    let memory = resident();
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64);
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    for (name, help, value) in [
        ("process_start_time_seconds", "When the process began, in seconds since 1970.", Some(started)),
        ("process_resident_memory_bytes", "Memory that is held in RAM.", memory),
        ("process_open_fds", "Open files and connections.", files),
        ("process_max_fds", "How many there may be.", most),
    ] {
        let mut family = text.family(name, Kind::Gauge, help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }
    let name = "process_cpu_seconds_total";
    let mut family = text.family(name, Kind::Counter, "Processor time used, by the kernel for it too.");
    if let Some(ticks) = processor() {
        family.float(&[], ticks / TICKS);
    }
}

/// Bytes in RAM, which `status` tells in units of 1,024.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Ticks in user and kernel mode: the 14th and 15th member of `stat`, counted after the name, which may hold spaces.
fn processor() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let members: Vec<&str> = stat.rsplit(") ").next()?.split_whitespace().collect();
    let ticks = |at: usize| members.get(at)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory_its_files_and_its_time() {
        let mut text = Text::default();
        write(&mut text, 1_795_489_236);
        let text = text.finish();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is not there\n{text}")).parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
