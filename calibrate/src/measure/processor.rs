//! What this machine's processors did meanwhile: their clocks, and who else used them.

use std::collections::BTreeMap;
use std::fs;

use crate::measurements::Observation;

/// Clocks that fall below this share of what they were are worth a word.
const THROTTLED: f64 = 0.85;
/// More of the processors' time than this, used by others, is worth a word.
const OTHERS: f64 = 0.1;

/// Clocks and use of this machine's processors since the beginning.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Processor {
    /// The fastest core's clock at the beginning, and the lowest that it had later.
    before_mhz: Option<f64>,
    lowest_mhz: Option<f64>,
    before: Use,
}

/// Use of processors since the machine was started, in the system's ticks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Use {
    /// By this process.
    own: u64,
    /// By all.
    busy: u64,
    /// By all and nobody.
    total: u64,
    /// The machine, as it calls its last start, and the process: ranks on one machine share its
    /// processors, and ranks that are threads one process.
    process: (String, u32),
}

impl Processor {
    pub(super) fn now() -> Self {
        let before_mhz = fastest_mhz();
        Self { before_mhz, lowest_mhz: before_mhz, before: Use::now() }
    }

    /// Looks at the clocks; to be called while there is work.
    pub(super) fn look(&mut self) {
        self.lowest_mhz = match (self.lowest_mhz, fastest_mhz()) {
            (Some(lowest), Some(now)) => Some(lowest.min(now)),
            (lowest, now) => lowest.or(now),
        };
    }

    /// What was used since the beginning.
    pub(super) fn used(&self) -> Use {
        let now = Use::now();
        Use {
            own: now.own.saturating_sub(self.before.own),
            busy: now.busy.saturating_sub(self.before.busy),
            total: now.total.saturating_sub(self.before.total),
            process: now.process,
        }
    }

    /// What is worth a word, given what each rank used.
    pub(super) fn observations(&self, ranks: &[Vec<u8>]) -> Vec<Observation> {
        let mut found = Vec::new();
        if let (Some(before_mhz), Some(lowest_mhz)) = (self.before_mhz, self.lowest_mhz)
            && lowest_mhz < THROTTLED * before_mhz
        {
            found.push(Observation::ClockThrottled { before_mhz, lowest_mhz });
        }
        let others = self.used().others(ranks);
        if others > OTHERS {
            let who = "other processes of this machine".to_owned();
            found.push(Observation::OtherProcess { who, share: others });
        }
        found
    }
}

impl Use {
    fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/self/stat"), &read("/proc/stat"))
            .map(|used| {
                let boot = read("/proc/sys/kernel/random/boot_id").trim().to_owned();
                Self { process: (boot, std::process::id()), ..used }
            })
            .unwrap_or_default()
    }

    /// From what Linux says (proc(5)): of the process, fields 14 and 15; of the machine, the first
    /// line, whose fourth and fifth numbers are idle.
    fn parse(process: &str, machine: &str) -> Option<Self> {
        // The second field, a name in brackets, may have spaces.
        let (_, after) = process.rsplit_once(')')?;
        let mut fields = after.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let own = ticks()? + ticks()?;
        let line = machine.lines().next()?.strip_prefix("cpu ")?;
        let numbers: Vec<u64> =
            line.split_whitespace().take(8).filter_map(|number| number.parse().ok()).collect();
        let total: u64 = numbers.iter().sum();
        let idle: u64 = numbers.iter().skip(3).take(2).sum();
        Some(Self { own, busy: total - idle, total, ..Self::default() })
    }

    /// The share of this machine's processors that was used by others than these ranks, of whom several
    /// may be threads of one process.
    fn others(&self, ranks: &[Vec<u8>]) -> f64 {
        let ranks = ranks.iter().filter_map(|bytes| Self::from_bytes(bytes));
        let here = ranks.filter(|rank| rank.process.0 == self.process.0);
        let processes: BTreeMap<u32, u64> = here.map(|rank| (rank.process.1, rank.own)).collect();
        let own: u64 = processes.values().sum();
        self.busy.saturating_sub(own) as f64 / self.total.max(1) as f64
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Self { own, busy, total, process: (boot, process) } = self;
        format!("{own} {busy} {total} {process} {boot}").into_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.splitn(5, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (own, busy, total) = (number()?, number()?, number()?);
        let process = u32::try_from(number()?).ok()?;
        Some(Self { own, busy, total, process: (words.next()?.to_owned(), process) })
    }
}

/// The fastest core's clock, where Linux says it.
fn fastest_mhz() -> Option<f64> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let clocks = text.lines().filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "cpu MHz").then(|| value.trim().parse::<f64>().ok())?
    });
    clocks.reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESS: &str =
        "42 (a (strange) name) R 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0";
    const MACHINE: &str = "cpu  700 0 200 1000 100 0 0 0 0 0\ncpu0 1 2 3\n";

    #[test]
    fn ticks_are_read_as_linux_writes_them() {
        let used = Use::parse(PROCESS, MACHINE).unwrap();
        assert_eq!((used.own, used.busy, used.total), (300, 900, 2000));
        let used = Use { process: ("an id".to_owned(), 7), ..used };
        assert_eq!(Use::from_bytes(&used.to_bytes()), Some(used));
        assert_eq!(Use::parse("", ""), None);
        assert_eq!(Use::from_bytes(b"1 2"), None);
    }

    #[test]
    fn others_are_who_is_no_rank_of_this_machine() {
        let used = |boot: &str, process, own| Use {
            own,
            busy: 800,
            total: 1000,
            process: (boot.to_owned(), process),
        };
        let here = used("here", 1, 300);
        let ranks = |all: &[Use]| all.iter().map(Use::to_bytes).collect::<Vec<_>>();
        // Two ranks are threads of process 1, one is process 2, and one is elsewhere: 800 − 300 − 200.
        let all = [here.clone(), here.clone(), used("here", 2, 200), used("there", 3, 900)];
        assert_eq!(here.others(&ranks(&all)), 0.3);
        assert_eq!(here.others(&ranks(&all[..1])), 0.5);
        assert_eq!(here.others(&[]), 0.8);
    }

    #[test]
    fn clocks_that_fall_are_worth_a_word() {
        let processor = |lowest| Processor {
            before_mhz: Some(3000.0),
            lowest_mhz: Some(lowest),
            before: Use::now(),
        };
        let throttled = |found: &[Observation]| {
            found.iter().any(|one| matches!(one, Observation::ClockThrottled { .. }))
        };
        assert!(throttled(&processor(2000.0).observations(&[])));
        assert!(!throttled(&processor(2900.0).observations(&[])));
    }
}
