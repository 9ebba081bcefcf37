//! Which rank this process is, from its flags or from what its launcher told it.
//!
//! Flags go first, then the variables of torchrun, of Slurm's srun, and of Open MPI's mpirun. The
//! first that are there decide; others must not contradict them. A process that nobody launched is
//! rank 0 of 1.
//!
//! | launcher | rank | world | local rank |
//! |---|---|---|---|
//! | flags | `--rank` | `--world` | `--local-rank`, or the rank |
//! | [torchrun] | `RANK` | `WORLD_SIZE` | `LOCAL_RANK` |
//! | [Slurm] | `SLURM_PROCID` | `SLURM_NTASKS` | `SLURM_LOCALID` |
//! | [Open MPI] | `OMPI_COMM_WORLD_RANK` | `OMPI_COMM_WORLD_SIZE` | `OMPI_COMM_WORLD_LOCAL_RANK` |
//!
//! Slurm counts as the launcher only where `SLURM_PROCID` is set: `SLURM_NTASKS` alone says no more
//! than that there is an allocation.
//!
//! Where ranks meet that have no other way to find each other is what `--master` says, or else
//! `MASTER_ADDR` and `MASTER_PORT`. Two launchers need a word more:
//!
//! - torchrun itself listens on `MASTER_PORT` where it sets `TORCHELASTIC_USE_AGENT_STORE=True`:
//!   then ranks meet at the port after it.
//! - Under Slurm each of the two has a default. The host is the first of `SLURM_STEP_NODELIST`,
//!   `SLURM_JOB_NODELIST` or `SLURM_NODELIST`, where rank 0 runs unless tasks are placed by hand; the
//!   port is 15000 + the last four digits of `SLURM_JOB_ID`, as in PyTorch Lightning.
//!
//! [torchrun]: https://docs.pytorch.org/docs/stable/elastic/run.html
//! [Slurm]: https://slurm.schedmd.com/srun.html
//! [Open MPI]: https://docs.open-mpi.org/en/v5.0.x/tuning-apps/environment-var.html

mod master;

pub use master::{Master, NoPlace};

use std::fmt;

/// The flags of a process that say who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LaunchFlags {
    /// `--rank`.
    pub rank: Option<u32>,
    /// `--world`.
    pub world: Option<u32>,
    /// `--local-rank`; without it the rank, as if there were one node.
    pub local_rank: Option<u32>,
    /// `--master`.
    pub master: Option<Master>,
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

/// Which rank this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The rank.
    pub rank: u32,
    /// How many ranks.
    pub world: u32,
    /// The rank among those of its node: which accelerator to take.
    pub local_rank: u32,
    /// Where to meet, if somebody says so.
    pub master: Option<Master>,
    /// What the launcher calls the run, the same on all its ranks: torchrun's
    /// `TORCHELASTIC_RUN_ID` and `TORCHELASTIC_RESTART_COUNT`, or Slurm's `SLURM_JOB_ID` and
    /// `SLURM_STEP_ID`.
    pub job: Option<String>,
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
        first: Box<Launch>,
        /// What contradicts it.
        second: Box<Launch>,
    },
}

struct Launcher {
    name: &'static str,
    source: LaunchSource,
    /// Rank, world, local rank.
    variables: [&'static str; 3],
    /// How many of them, if any is set, show that it launched the process.
    telling: usize,
    /// What it calls the run.
    job: &'static [&'static str],
}

const TORCHRUN: Launcher = Launcher {
    name: "torchrun",
    source: LaunchSource::Torchrun,
    variables: ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    telling: 3,
    job: &["TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"],
};

const SLURM: Launcher = Launcher {
    name: "Slurm",
    source: LaunchSource::Slurm,
    variables: ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
    telling: 1,
    job: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
};

const OPEN_MPI: Launcher = Launcher {
    name: "Open MPI",
    source: LaunchSource::OpenMpi,
    variables: ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    telling: 3,
    job: &[],
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
        let place = flags.master.clone();
        let mut found = from_flags(&flags)?;
        for launcher in LAUNCHERS {
            let Some(other) = launcher.find(&variable, found.is_some())? else { continue };
            match &found {
                None => found = Some(other),
                // Flags are there to overrule.
                Some(first) if first.source == LaunchSource::Flags => {}
                Some(first) if (first.rank, first.world) == (other.rank, other.world) => {}
                Some(first) => {
                    let (first, second) = (Box::new(first.clone()), Box::new(other));
                    return Err(LaunchError::Contradiction { first, second });
                }
            }
        }
        let mut launch = match found {
            Some(launch) => launch,
            None => Self::new(LaunchSource::Alone, FLAGS, [0, 1, 0])?,
        };
        launch.master = match (place, launch.source) {
            (Some(place), _) => Some(place),
            (None, LaunchSource::Alone) => None,
            (None, LaunchSource::Torchrun) => master::of_torchrun(variable)?,
            (None, LaunchSource::Slurm) => master::of_slurm(variable)?,
            (None, LaunchSource::Flags | LaunchSource::OpenMpi) => {
                master::from_variables(variable)?
            }
        };
        Ok(launch)
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
        Ok(Self { rank, world, local_rank, master: None, job: None, source })
    }
}

fn from_flags(flags: &LaunchFlags) -> Result<Option<Launch>, LaunchError> {
    let LaunchFlags { rank, world, local_rank, .. } = *flags;
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
        let job: Vec<String> = self.job.iter().filter_map(|name| variable(name)).collect();
        launch.job = (!job.is_empty()).then(|| format!("{} {}", self.name, job.join(".")));
        Ok(Some(launch))
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

    const NO_FLAGS: LaunchFlags =
        LaunchFlags { rank: None, world: None, local_rank: None, master: None };

    fn flags(rank: Option<u32>, world: Option<u32>, local_rank: Option<u32>) -> LaunchFlags {
        LaunchFlags { rank, world, local_rank, master: None }
    }

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
        let flags = flags(Some(1), Some(2), None);
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
        let flags = flags(Some(1), Some(2), Some(0));
        let launch = find(flags, &format!("{TORCHRUN} {SLURM}")).unwrap();
        assert_eq!((launch.rank, launch.source), (1, LaunchSource::Flags));
        let agreeing = TORCHRUN.replace("RANK=3", "RANK=5");
        let launch = find(NO_FLAGS, &format!("{agreeing} {SLURM}")).unwrap();
        assert_eq!((launch.rank, launch.source), (5, LaunchSource::Torchrun));
    }

    #[test]
    fn ranks_meet_where_flags_or_variables_say() {
        const PLACE: &str = "MASTER_ADDR=node0 MASTER_PORT=29500";
        let step = format!("{SLURM} SLURM_JOB_ID=4012345 SLURM_STEP_ID=2");
        let nodes = "SLURM_STEP_NODELIST=node[08-11] SLURM_JOB_NODELIST=node[01-16]";
        let place = |flags: LaunchFlags, environment: &str| {
            let master = find(flags, environment).unwrap().master;
            master.map(|master| master.to_string())
        };
        let ranks = flags(Some(1), Some(2), None);
        for (flags, environment, expected) in [
            (ranks.clone(), String::new(), None),
            (ranks.clone(), PLACE.to_owned(), Some("node0:29500")),
            (NO_FLAGS, format!("{OPEN_MPI} {PLACE}"), Some("node0:29500")),
            (NO_FLAGS, OPEN_MPI.to_owned(), None),
            // Torchrun listens there itself.
            (
                NO_FLAGS,
                format!("{TORCHRUN} TORCHELASTIC_USE_AGENT_STORE=True"),
                Some("node0:29501"),
            ),
            (
                NO_FLAGS,
                format!("{TORCHRUN} TORCHELASTIC_USE_AGENT_STORE=False"),
                Some("node0:29500"),
            ),
            (
                NO_FLAGS,
                TORCHRUN.replace("29500", "65535 TORCHELASTIC_USE_AGENT_STORE=True"),
                Some("node0:65534"),
            ),
            (NO_FLAGS, format!("{step} {nodes}"), Some("node08:17345")),
            (NO_FLAGS, format!("{step} {nodes} {PLACE}"), Some("node0:29500")),
            (NO_FLAGS, format!("{step} {nodes} MASTER_PORT=1234"), Some("node08:1234")),
            (NO_FLAGS, format!("{step} MASTER_ADDR=node0"), Some("node0:17345")),
            (NO_FLAGS, format!("{step} SLURM_NODELIST=a,b"), Some("a:17345")),
            (NO_FLAGS, format!("{step} SLURM_STEP_NODELIST=node[1-2"), None),
            (NO_FLAGS, format!("{SLURM} {nodes}"), None),
            // Nobody to meet.
            (NO_FLAGS, PLACE.to_owned(), None),
        ] {
            assert_eq!(place(flags, &environment).as_deref(), expected, "{environment}");
        }
        let master = Some("other:1".parse().unwrap());
        for environment in [TORCHRUN, &format!("{step} {nodes}"), "MASTER_ADDR=half"] {
            let flags = LaunchFlags { master: master.clone(), ..ranks.clone() };
            assert_eq!(place(flags, environment).as_deref(), Some("other:1"), "{environment}");
        }
        assert_eq!(
            find(ranks, "MASTER_PORT=1").unwrap_err(),
            "MASTER_PORT is set but MASTER_ADDR is not: set both, or neither"
        );
    }

    #[test]
    fn launchers_call_their_runs_something() {
        let job = |environment: &str| find(NO_FLAGS, environment).unwrap().job;
        let step = format!("{SLURM} SLURM_JOB_ID=4012345 SLURM_STEP_ID=2");
        assert_eq!(job(&step).as_deref(), Some("Slurm 4012345.2"));
        let elastic = "TORCHELASTIC_RUN_ID=abc TORCHELASTIC_RESTART_COUNT=1";
        assert_eq!(job(&format!("{TORCHRUN} {elastic}")).as_deref(), Some("torchrun abc.1"));
        assert_eq!(job(TORCHRUN), None);
        assert_eq!(job(OPEN_MPI), None);
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
                "MASTER_PORT is `65536`: expected a port, 1 to 65535",
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
        let flags = flags(None, Some(2), None);
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
