//! What the machine can give to instances.

use types::{ByteSize, MilliCpu, limits, plan::Capacity};

/// Memory and processors of this machine, less what the system and the agent need for themselves.
///
/// Memory is what the kernel has, less [`limits::MEMORY_HEADROOM`] and a sixteenth.
pub fn capacity() -> Capacity {
    let known = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Capacity {
        memory: less_headroom(total_memory(&known)),
        cpu: MilliCpu::new(u32::try_from(cores).unwrap_or(u32::MAX / 1000).saturating_mul(1000)),
    }
}

fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn less_headroom(total: u64) -> ByteSize {
    let given = total.saturating_sub(total / 16).saturating_sub(limits::MEMORY_HEADROOM.bytes());
    ByteSize::from_mib(given >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_keeps_some_memory_for_itself() {
        let total = total_memory("MemFree: 1 kB\nMemTotal:       16777216 kB\n");
        assert_eq!(total, 16 << 30);
        assert_eq!(less_headroom(total), ByteSize::from_mib(15 * 1024 - 256));
        assert_eq!(less_headroom(0), ByteSize::from_bytes(0));
    }

    #[test]
    fn this_machine_has_something_to_give() {
        let found = capacity();
        assert!(found.memory.bytes() > 0 && found.cpu.get() >= 1000, "{found:?}");
    }
}
