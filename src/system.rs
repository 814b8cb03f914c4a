//! The machine goes in; its memory, this process's memory and its cores come out, as far as the system tells them.
//!
//! Linux tells all of it in text files; elsewhere what is not known is `None`, and callers then ask the user.

use std::path::{Path, PathBuf};

/// Bytes of memory that the machine has.
pub fn physical_memory() -> Option<u64> {
    meminfo("MemTotal:")
}

/// Bytes of memory that are free or can be freed, within the container's limit.
pub fn available_memory() -> Option<u64> {
    let container = Control::memory().and_then(|c| c.memory_left());
    smallest(meminfo("MemAvailable:"), container)
}

/// Bytes that the container (control group) may use; `None` without a limit.
pub fn container_memory() -> Option<u64> {
    Control::memory().and_then(|c| c.memory_limit())
}

/// Bytes that this process can ever have: the machine's memory or the container's limit, whichever is less.
pub fn memory_limit() -> Option<u64> {
    smallest(physical_memory(), container_memory())
}

/// The most bytes that this process has had resident so far.
pub fn peak_resident() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmHWM:")
}

/// The bytes that this process has resident now.
pub fn resident() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmRSS:")
}

/// Physical cores that this process may use: hardware threads of one core count once, and the container's quota of
/// processor time is a limit too. At least 1.
pub fn physical_cores() -> usize {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let cores = read("/proc/self/status")
        .and_then(|status| Some(parse_list(field(&status, "Cpus_allowed_list:")?)))
        .and_then(|allowed| count_cores(Path::new("/sys/devices/system/cpu"), &allowed))
        .unwrap_or(threads);
    let quota = Control::processor().and_then(|c| c.processor_quota()).map_or(cores, |q| q as usize);
    cores.min(threads).min(quota).max(1)
}

/// Where Lienzo may keep what it can compute again: `LIENZO_CACHE_DIR`, else the system's cache folder for this user.
pub fn cache_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(own) = var("LIENZO_CACHE_DIR") {
        return Some(own);
    }
    let base = if cfg!(windows) {
        var("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        var("HOME").map(|home| home.join("Library/Caches"))
    } else {
        var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("lienzo"))
}

/// The instruction set that kernels use here.
pub fn instruction_set() -> String {
    crate::simd::Isa::best().to_string()
}

/// What the processor calls itself.
pub fn processor_name() -> Option<String> {
    let info = read("/proc/cpuinfo")?;
    let line = info.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// `2.13 GB`: three digits or two after the point, in powers of 1000.
pub fn format_bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // What would be printed as 1000.00 belongs to the next unit.
    while value >= 999.995 && unit + 1 < units.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", units[unit]) }
}

fn smallest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The rest of the line that begins with `key`, without the white space around it.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    field(text, key)?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn meminfo(key: &str) -> Option<u64> {
    kilobytes(&read("/proc/meminfo")?, key)
}

/// `0-3,8` as numbers; what is not a number is left out.
fn parse_list(text: &str) -> Vec<usize> {
    let number = |s: &str| s.trim().parse().ok();
    text.split(',')
        .filter_map(|part| match part.split_once('-') {
            Some((a, b)) => Some(number(a)?..=number(b)?),
            None => number(part).map(|n| n..=n),
        })
        .flatten()
        // More processors than any machine has: a broken file must not become a long loop.
        .take(65_536)
        .collect()
}

/// Different (package, core) pairs of the `allowed` processors.
fn count_cores(cpus: &Path, allowed: &[usize]) -> Option<usize> {
    let id = |cpu: usize, name: &str| read(cpus.join(format!("cpu{cpu}/topology/{name}")));
    let pairs: Option<std::collections::BTreeSet<_>> =
        allowed.iter().map(|&cpu| Some((id(cpu, "physical_package_id")?, id(cpu, "core_id")?))).collect();
    pairs.map(|set| set.len()).filter(|&n| n > 0)
}

/// This process's control group and those above it, innermost first: folders that hold the limits.
struct Control {
    folders: Vec<PathBuf>,
    /// Version 2 has one tree with other file names.
    unified: bool,
}

impl Control {
    fn memory() -> Option<Self> {
        Self::find(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup")?, "memory")
    }

    fn processor() -> Option<Self> {
        Self::find(Path::new("/sys/fs/cgroup"), &read("/proc/self/cgroup")?, "cpu")
    }

    /// `membership` is `/proc/self/cgroup`: lines of `number:controllers:path`; version 2 has number 0, no controllers.
    fn find(root: &Path, membership: &str, controller: &str) -> Option<Self> {
        let mut lines = membership.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            Some((parts.next()?, parts.next()?, parts.next()?))
        });
        let first = lines.clone().find(|(_, controllers, _)| controllers.split(',').any(|c| c == controller));
        let (top, path, unified) = match first {
            Some((_, controllers, path)) => {
                let joined = root.join(controllers);
                (if joined.is_dir() { joined } else { root.join(controller) }, path, false)
            }
            None => (root.to_path_buf(), lines.find(|(n, c, _)| *n == "0" && c.is_empty())?.2, true),
        };
        // Inside a container the path may be the host's and not exist here; the walk up still ends at the tree's top.
        let own = top.join(path.trim_start_matches('/'));
        let folders = own.ancestors().take_while(|f| f.starts_with(&top)).map(Path::to_path_buf).collect();
        Some(Self { folders, unified })
    }

    fn limit_of(&self, folder: &Path) -> Option<u64> {
        let name = if self.unified { "memory.max" } else { "memory.limit_in_bytes" };
        // "max" does not parse; version 1 says "no limit" with a number near 2^63.
        read(folder.join(name))?.trim().parse().ok().filter(|&n| n < 1 << 60)
    }

    fn memory_limit(&self) -> Option<u64> {
        self.folders.iter().filter_map(|f| self.limit_of(f)).min()
    }

    /// What each limit leaves; cached files that can be dropped do not count as used.
    fn memory_left(&self) -> Option<u64> {
        let name = if self.unified { "memory.current" } else { "memory.usage_in_bytes" };
        let cached = if self.unified { "inactive_file " } else { "total_inactive_file " };
        let left = |folder: &PathBuf| {
            let limit = self.limit_of(folder)?;
            let used: u64 = read(folder.join(name))?.trim().parse().ok()?;
            let stat = read(folder.join("memory.stat")).unwrap_or_default();
            let cached = field(&stat, cached).and_then(|n| n.parse().ok()).unwrap_or(0);
            Some(limit.saturating_sub(used.saturating_sub(cached)))
        };
        self.folders.iter().filter_map(left).min()
    }

    /// Whole processors' worth of time, at least 1.
    fn processor_quota(&self) -> Option<u64> {
        let quota = |folder: &PathBuf| {
            let (quota, period) = if self.unified {
                let text = read(folder.join("cpu.max"))?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
            } else {
                let value = |name: &str| read(folder.join(name))?.trim().parse::<u64>().ok();
                (value("cpu.cfs_quota_us")?, value("cpu.cfs_period_us")?)
            };
            quota.checked_div(period)
        };
        self.folders.iter().filter_map(quota).min().map(|n| n.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn bytes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (2_132_000_000, "2.13 GB"),
            (999_995_000, "1.00 GB"),
            (999_994_000, "999.99 MB"),
            (u64::MAX, "18.45 EB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn system_files_are_understood() {
        let status = "Name:\tx\nVmHWM:\t  123 kB\nVmRSS:\t12 kB\nCpus_allowed_list:\t0-2,5\n";
        assert_eq!((kilobytes(status, "VmHWM:"), kilobytes(status, "VmSwap:")), (Some(123 * 1024), None));
        assert_eq!(parse_list("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(parse_list("x,3-,7,9-8"), [7]);
        assert_eq!(parse_list("0-18446744073709551615").len(), 65_536);
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("lienzo-system-{}-{name}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_tightest_limit_above_counts() {
        let f = Folder::new(
            "v2",
            &[
                ("a/memory.max", "3000\n"),
                ("a/memory.current", "1500\n"),
                ("a/memory.stat", "anon 900\ninactive_file 500\n"),
                ("a/cpu.max", "250000 100000\n"),
                ("a/b/memory.max", "max\n"),
                ("a/b/cpu.max", "max 100000\n"),
            ],
        );
        let find = |path: &str| Control::find(&f.0, path, "memory").unwrap();
        assert_eq!(find("0::/a/b\n").memory_limit(), Some(3000));
        assert_eq!(find("0::/a/b\n").memory_left(), Some(2000));
        assert_eq!(find("0::/a/b\n").processor_quota(), Some(2));
        // The host's path, seen from inside.
        assert_eq!(find("0::/a/b/docker/123\n").memory_limit(), Some(3000));
        assert_eq!((find("0::/\n").memory_limit(), find("0::/\n").processor_quota()), (None, None));
        assert_eq!(find("0::/../..\n").memory_limit(), None);
        assert!(Control::find(&f.0, "nonsense\n", "memory").is_none());
    }

    #[test]
    fn the_older_trees_are_read() {
        let f = Folder::new(
            "v1",
            &[
                ("memory/x/memory.limit_in_bytes", "5000\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("cpu,cpuacct/x/cpu.cfs_quota_us", "50000\n"),
                ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
                ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ],
        );
        let membership = "5:memory:/x\n4:cpu,cpuacct:/x\n0::/y\n";
        assert_eq!(Control::find(&f.0, membership, "memory").unwrap().memory_limit(), Some(5000));
        assert_eq!(Control::find(&f.0, "5:memory:/z\n", "memory").unwrap().memory_limit(), None);
        assert_eq!(Control::find(&f.0, membership, "cpu").unwrap().processor_quota(), Some(1));
    }

    #[test]
    fn hardware_threads_of_one_core_count_once() {
        let mut files = Vec::new();
        for (cpu, package, core) in [(0, 0, 0), (1, 0, 0), (2, 0, 1), (3, 1, 0)] {
            files.push((format!("cpu{cpu}/topology/physical_package_id"), format!("{package}\n")));
            files.push((format!("cpu{cpu}/topology/core_id"), format!("{core}\n")));
        }
        let files: Vec<_> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let f = Folder::new("cores", &files);
        assert_eq!(count_cores(&f.0, &[0, 1, 2, 3]), Some(3));
        assert_eq!(count_cores(&f.0, &[0, 1]), Some(1));
        assert_eq!(count_cores(&f.0, &[0, 9]), None);
        assert_eq!(count_cores(&f.0, &[]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_is_plausible() {
        assert!(physical_memory() >= memory_limit() && memory_limit() > Some(1 << 20));
        assert!(peak_resident() >= resident() && resident() > Some(1 << 16));
        assert!(available_memory() <= physical_memory());
        assert!(physical_cores() >= 1);
    }
}
