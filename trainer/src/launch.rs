//! Which rank this process is, from its flags or from what its launcher told it.
//!
//! Flags go first, then the variables of torchrun, of Slurm's srun, and of Open MPI's mpirun. The
//! first that are there decide; others must not contradict them. A process that nobody launched is
//! rank 0 of 1.
//!
//! | launcher | rank | world | local rank | also |
//! |---|---|---|---|---|
//! | [torchrun] | `RANK` | `WORLD_SIZE` | `LOCAL_RANK` | `MASTER_ADDR`, `MASTER_PORT` |
//! | [Slurm] | `SLURM_PROCID` | `SLURM_NTASKS` | `SLURM_LOCALID` | |
//! | [Open MPI] | `OMPI_COMM_WORLD_RANK` | `OMPI_COMM_WORLD_SIZE` | `OMPI_COMM_WORLD_LOCAL_RANK` | |
//!
//! Slurm counts as the launcher only where `SLURM_PROCID` is set: `SLURM_NTASKS` alone says no more
//! than that there is an allocation.
//!
//! [torchrun]: https://docs.pytorch.org/docs/stable/elastic/run.html
//! [Slurm]: https://slurm.schedmd.com/srun.html
//! [Open MPI]: https://docs.open-mpi.org/en/v5.0.x/tuning-apps/environment-var.html

use std::fmt;

/// The flags of a process that say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaunchFlags {
    /// `--rank`.
    pub rank: Option<u32>,
    /// `--world`.
    pub world: Option<u32>,
    /// `--local-rank`; without it the rank, as if there were one node.
    pub local_rank: Option<u32>,
}

/// Who says which rank this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchSource {
    /// Flags.
    Flags,
    /// The variables of torchrun.
    Torchrun,
    /// The variables of Slurm.
    Slurm,
    /// The variables of Open MPI.
    OpenMpi,
    /// Nobody: it is alone.
    Alone,
}

impl fmt::Display for LaunchSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (launcher, [rank, world, _]) = match self {
            Self::Flags => ("flags", FLAGS),
            Self::Torchrun => (TORCHRUN.name, TORCHRUN.variables),
            Self::Slurm => (SLURM.name, SLURM.variables),
            Self::OpenMpi => (OPEN_MPI.name, OPEN_MPI.variables),
            Self::Alone => return f.write_str("no flags and no launcher's variables"),
        };
        write!(f, "from {launcher}: {rank}, {world}")
    }
}

const FLAGS: [&str; 3] = ["--rank", "--world", "--local-rank"];

/// Where ranks meet that have no other way to find each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Master {
    /// The host of rank 0.
    pub address: String,
    /// A free port there.
    pub port: u16,
}

/// Which rank this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The rank.
    pub rank: u32,
    /// How many ranks.
    pub world: u32,
    /// The rank among those of its node: which accelerator to take.
    pub local_rank: u32,
    /// Where to meet, if torchrun says so.
    pub master: Option<Master>,
    /// Who says so.
    pub source: LaunchSource,
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, world, source, .. } = self;
        write!(f, "rank {rank} of {world} ({source})")
    }
}

/// Why a process does not know its rank.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// A value is missing where others are there.
    #[error("{present} is set but {missing} is not: set both, or neither")]
    HalfSet {
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A value is no number.
    #[error("{variable} is `{value}`: expected {expected}")]
    NotANumber {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
    /// There are no ranks.
    #[error("{variable} is 0: expected at least 1 rank")]
    NoRanks {
        /// The flag or variable.
        variable: &'static str,
    },
    /// A rank beyond the last.
    #[error(
        "{variable} is {rank} but {world_variable} is {world}: ranks count from 0, so that it must \
         be below"
    )]
    BeyondLast {
        /// The flag or variable.
        variable: &'static str,
        /// Its value.
        rank: u32,
        /// The flag or variable of the number of ranks.
        world_variable: &'static str,
        /// Its value.
        world: u32,
    },
    /// Two sources say different things.
    #[error(
        "{first} but {second}: say which by --rank and --world, or clear the variables of the \
         launcher that did not start this process, as in `env -u {}`", variables_of(.first.source)
    )]
    Contradiction {
        /// What goes first.
        first: Launch,
        /// What contradicts it.
        second: Launch,
    },
}

struct Launcher {
    name: &'static str,
    source: LaunchSource,
    /// Rank, world, local rank.
    variables: [&'static str; 3],
    /// How many of them, if any is set, show that it launched the process.
    telling: usize,
}

const TORCHRUN: Launcher = Launcher {
    name: "torchrun",
    source: LaunchSource::Torchrun,
    variables: ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    telling: 3,
};

const SLURM: Launcher = Launcher {
    name: "Slurm",
    source: LaunchSource::Slurm,
    variables: ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
    telling: 1,
};

const OPEN_MPI: Launcher = Launcher {
    name: "Open MPI",
    source: LaunchSource::OpenMpi,
    variables: ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    telling: 3,
};

const LAUNCHERS: [Launcher; 3] = [TORCHRUN, SLURM, OPEN_MPI];

/// What to clear if this launcher's variables do not apply.
fn variables_of(source: LaunchSource) -> String {
    let launcher = LAUNCHERS.iter().find(|launcher| launcher.source == source);
    launcher.map_or(FLAGS, |launcher| launcher.variables).join(" -u ")
}

impl Launch {
    /// Finds out, from flags and from the environment as `variable` looks it up; in a program
    /// `|name| std::env::var(name).ok()`.
    ///
    /// # Errors
    /// Something is half set, no number, out of range, or contradicts what goes before it.
    pub fn find(
        flags: LaunchFlags,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, LaunchError> {
        let mut found = from_flags(flags)?;
        for launcher in LAUNCHERS {
            let Some(other) = launcher.find(&variable, found.is_some())? else { continue };
            match &found {
                None => found = Some(other),
                // Flags are there to overrule.
                Some(first) if first.source == LaunchSource::Flags => {}
                Some(first) if (first.rank, first.world) == (other.rank, other.world) => {}
                Some(first) => {
                    let first = first.clone();
                    return Err(LaunchError::Contradiction { first, second: other });
                }
            }
        }
        let alone =
            || Self { rank: 0, world: 1, local_rank: 0, master: None, source: LaunchSource::Alone };
        Ok(found.unwrap_or_else(alone))
    }

    fn new(
        source: LaunchSource,
        names: [&'static str; 3],
        [rank, world, local_rank]: [u32; 3],
    ) -> Result<Self, LaunchError> {
        let [rank_name, world_name, local_rank_name] = names;
        if world == 0 {
            return Err(LaunchError::NoRanks { variable: world_name });
        }
        for (variable, rank) in [(rank_name, rank), (local_rank_name, local_rank)] {
            if rank >= world {
                let world_variable = world_name;
                return Err(LaunchError::BeyondLast { variable, rank, world_variable, world });
            }
        }
        Ok(Self { rank, world, local_rank, master: None, source })
    }
}

fn from_flags(flags: LaunchFlags) -> Result<Option<Launch>, LaunchError> {
    let LaunchFlags { rank, world, local_rank } = flags;
    let [rank_flag, world_flag, local_rank_flag] = FLAGS;
    let half = |present, missing| Err(LaunchError::HalfSet { present, missing });
    match (rank, world, local_rank) {
        (None, None, None) => Ok(None),
        (Some(rank), Some(world), local) => {
            let numbers = [rank, world, local.unwrap_or(rank)];
            Launch::new(LaunchSource::Flags, FLAGS, numbers).map(Some)
        }
        (Some(_), None, _) => half(rank_flag, world_flag),
        (None, Some(_), _) => half(world_flag, rank_flag),
        (None, None, Some(_)) => half(local_rank_flag, rank_flag),
    }
}

impl Launcher {
    /// What it says, if it launched the process. If another is known already, half of an answer is
    /// none.
    fn find(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        is_known: bool,
    ) -> Result<Option<Launch>, LaunchError> {
        let values = self.variables.map(&variable);
        let telling = self.variables.iter().zip(&values).take(self.telling);
        let Some((&present, _)) = telling.clone().find(|(_, value)| value.is_some()) else {
            return Ok(None);
        };
        let mut numbers = [0; 3];
        for ((name, value), number) in self.variables.iter().zip(&values).zip(&mut numbers) {
            match value {
                Some(value) => *number = parse(name, value, "a whole number")?,
                None if is_known => return Ok(None),
                None => return Err(LaunchError::HalfSet { present, missing: name }),
            }
        }
        let mut launch = Launch::new(self.source, self.variables, numbers)?;
        if self.source == LaunchSource::Torchrun {
            launch.master = master(variable)?;
        }
        Ok(Some(launch))
    }
}

fn master(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Master>, LaunchError> {
    const ADDRESS: &str = "MASTER_ADDR";
    const PORT: &str = "MASTER_PORT";
    match (variable(ADDRESS), variable(PORT)) {
        (None, None) => Ok(None),
        (Some(address), Some(port)) => {
            let port = parse(PORT, &port, "a port, 0 to 65535")?;
            Ok(Some(Master { address, port }))
        }
        (Some(_), None) => Err(LaunchError::HalfSet { present: ADDRESS, missing: PORT }),
        (None, Some(_)) => Err(LaunchError::HalfSet { present: PORT, missing: ADDRESS }),
    }
}

fn parse<N: std::str::FromStr>(
    variable: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<N, LaunchError> {
    let value = value.to_owned();
    value.parse().map_err(|_| LaunchError::NotANumber { variable, value, expected })
}

/// Ranks on this machine, as the launcher says it (Open MPI, MPICH, torchrun, Slurm); none if it does
/// not. The environment is as `variable` looks it up.
pub fn local_ranks(variable: impl Fn(&str) -> Option<String>) -> Option<u32> {
    let names = [
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "MPI_LOCALNRANKS",
        "LOCAL_WORLD_SIZE",
        "SLURM_NTASKS_PER_NODE",
    ];
    names.iter().find_map(|name| variable(name)?.parse().ok().filter(|&ranks| ranks > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launchers_say_how_many_ranks_share_the_machine() {
        let of = |known: &[(&str, &str)]| {
            local_ranks(|name| {
                known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("SLURM_NTASKS_PER_NODE", "8")]), Some(8));
        assert_eq!(of(&[("SLURM_NTASKS_PER_NODE", "8"), ("LOCAL_WORLD_SIZE", "4")]), Some(4));
        assert_eq!(of(&[("LOCAL_WORLD_SIZE", "many"), ("SLURM_NTASKS_PER_NODE", "2")]), Some(2));
        assert_eq!(of(&[("LOCAL_WORLD_SIZE", "0")]), None);
    }

    const NO_FLAGS: LaunchFlags = LaunchFlags { rank: None, world: None, local_rank: None };

    /// The environment as in `RANK=3 WORLD_SIZE=8`.
    fn find(flags: LaunchFlags, environment: &str) -> Result<Launch, String> {
        let variable = |name: &str| {
            let mut pairs = environment.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        };
        Launch::find(flags, variable).map_err(|error| error.to_string())
    }

    const TORCHRUN: &str = "RANK=3 WORLD_SIZE=8 LOCAL_RANK=1 MASTER_ADDR=node0 MASTER_PORT=29500";
    const SLURM: &str = "SLURM_PROCID=5 SLURM_NTASKS=8 SLURM_LOCALID=2";
    const OPEN_MPI: &str =
        "OMPI_COMM_WORLD_RANK=6 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=0";

    #[test]
    fn each_launcher_is_understood_and_named() {
        let flags = LaunchFlags { rank: Some(1), world: Some(2), local_rank: None };
        for (flags, environment, local_rank, text) in [
            (flags, "", 1, "rank 1 of 2 (from flags: --rank, --world)"),
            (NO_FLAGS, TORCHRUN, 1, "rank 3 of 8 (from torchrun: RANK, WORLD_SIZE)"),
            (NO_FLAGS, SLURM, 2, "rank 5 of 8 (from Slurm: SLURM_PROCID, SLURM_NTASKS)"),
            (
                NO_FLAGS,
                OPEN_MPI,
                0,
                "rank 6 of 8 (from Open MPI: OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE)",
            ),
            (NO_FLAGS, "", 0, "rank 0 of 1 (no flags and no launcher's variables)"),
        ] {
            let launch = find(flags, environment).unwrap();
            assert_eq!((launch.to_string().as_str(), launch.local_rank), (text, local_rank));
        }
        let master = find(NO_FLAGS, TORCHRUN).unwrap().master.unwrap();
        assert_eq!(master, Master { address: "node0".to_owned(), port: 29500 });
    }

    #[test]
    fn flags_overrule_variables_and_variables_that_agree_do_no_harm() {
        let flags = LaunchFlags { rank: Some(1), world: Some(2), local_rank: Some(0) };
        let launch = find(flags, &format!("{TORCHRUN} {SLURM}")).unwrap();
        assert_eq!((launch.rank, launch.source), (1, LaunchSource::Flags));
        let agreeing = TORCHRUN.replace("RANK=3", "RANK=5");
        let launch = find(NO_FLAGS, &format!("{agreeing} {SLURM}")).unwrap();
        assert_eq!((launch.rank, launch.source), (5, LaunchSource::Torchrun));
    }

    #[test]
    fn an_allocation_of_slurm_launches_nobody() {
        let launch = find(NO_FLAGS, "SLURM_NTASKS=8").unwrap();
        assert_eq!((launch.world, launch.source), (1, LaunchSource::Alone));
    }

    #[test]
    fn what_is_half_set_or_wrong_is_explained() {
        for (environment, message) in [
            ("RANK=3", "RANK is set but WORLD_SIZE is not: set both, or neither"),
            ("WORLD_SIZE=3", "WORLD_SIZE is set but RANK is not: set both, or neither"),
            ("RANK=0 WORLD_SIZE=1", "RANK is set but LOCAL_RANK is not: set both, or neither"),
            (
                "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 MASTER_ADDR=node0",
                "MASTER_ADDR is set but MASTER_PORT is not: set both, or neither",
            ),
            (
                "RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 MASTER_ADDR=node0 MASTER_PORT=65536",
                "MASTER_PORT is `65536`: expected a port, 0 to 65535",
            ),
            ("RANK=-1 WORLD_SIZE=2 LOCAL_RANK=0", "RANK is `-1`: expected a whole number"),
            (
                "RANK=2 WORLD_SIZE=2 LOCAL_RANK=0",
                "RANK is 2 but WORLD_SIZE is 2: ranks count from 0, so that it must be below",
            ),
            ("RANK=0 WORLD_SIZE=0 LOCAL_RANK=0", "WORLD_SIZE is 0: expected at least 1 rank"),
            (
                "SLURM_PROCID=0 SLURM_LOCALID=0",
                "SLURM_PROCID is set but SLURM_NTASKS is not: set both, or neither",
            ),
        ] {
            assert_eq!(find(NO_FLAGS, environment).unwrap_err(), message);
        }
        let flags = LaunchFlags { rank: None, world: Some(2), local_rank: None };
        let message = "--world is set but --rank is not: set both, or neither";
        assert_eq!(find(flags, TORCHRUN).unwrap_err(), message);
    }

    /// As in a batch script of Slurm that calls mpirun, whose processes are all Slurm's task 0.
    #[test]
    fn contradictions_say_what_to_clear() {
        let slurm = SLURM.replace("PROCID=5", "PROCID=0");
        assert_eq!(
            find(NO_FLAGS, &format!("{slurm} {OPEN_MPI}")).unwrap_err(),
            "rank 0 of 8 (from Slurm: SLURM_PROCID, SLURM_NTASKS) but rank 6 of 8 (from Open MPI: \
             OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE): say which by --rank and --world, or clear \
             the variables of the launcher that did not start this process, as in `env -u \
             SLURM_PROCID -u SLURM_NTASKS -u SLURM_LOCALID`"
        );
    }
}
