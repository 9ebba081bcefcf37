//! What NCCL found of a node, as it writes it to the file that `NCCL_TOPO_DUMP_FILE` names.
//!
//! ```xml
//! <system version="1">
//!   <cpu numaid="0" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="79">
//!     <pci busid="0000:05:00.0" class="0x060400" link_speed="8.0 GT/s PCIe" link_width="16">
//!       <pci busid="0000:06:00.0" class="0x030200" link_speed="8.0 GT/s PCIe" link_width="16">
//!         <gpu dev="0" sm="70" rank="0" gdr="1">
//!           <nvlink target="0000:07:00.0" count="1" tclass="0x030200"/>
//!         </gpu>
//!       </pci>
//!       <pci busid="0000:08:00.0" class="0x020700" link_speed="8.0 GT/s PCIe" link_width="16">
//!         <nic><net name="mlx5_0" dev="0" speed="100000" port="1" latency="0.000000" gdr="1"/></nic>
//! ```
//!
//! The format is that of NCCL's `src/graph/xml.cc`, read as `src/graph/topo.cc` reads it: `speed` is in
//! Mbit/s and `latency` in us, `tclass` is the PCI class of what an NVLink leads to (`0x03....` a GPU,
//! `0x068000` NVSwitch), an accelerator without `rank` does not take part, and Broadcom switches that
//! show themselves as two levels are one. [`NcclTopology::cluster`] turns it into what a scenario
//! needs. Bandwidths are those that NCCL's own search uses (`topo.h`): of NVLink by compute
//! capability, of PCIe by speed and width, between CPUs by their kind.
//!
//! The file says nothing of latencies, except what a network plug-in adds: they are those of the
//! catalogue for the same kind of link, which are NCCL's model constants, or must be given.
//!
//! Left out, with a warning where the file has it: links between GPUs and CPUs (NVLink-C2C, NVLink of
//! POWER), links between PCIe switches, transfers that go through the host's memory for want of
//! GPUDirect, the fifth that GPU to GPU traffic through Intel's CPUs takes in addition
//! (`INTEL_P2P_OVERHEAD`), and the network beyond the node's ports.

mod bandwidth;
mod cluster;
mod devices;
mod graph;
mod paths;
mod regular;
mod write;
mod xml;

#[cfg(test)]
mod tests;

pub use cluster::{ClusterOptions, ImportedCluster};

use foretrain_sim::units::{Bandwidth, SimDuration};

use super::ImportError;

/// A node as NCCL sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NcclTopology {
    /// Memory domains of CPUs.
    pub cpus: Vec<Cpu>,
    /// PCIe switches, and network cards with several ports; each after the one that it is below.
    pub switches: Vec<PcieSwitch>,
    /// Accelerators that take part, by rank; at least one.
    pub gpus: Vec<Gpu>,
    /// Network interfaces, by number.
    pub nics: Vec<Nic>,
    /// What of the file is not in here, or was not known.
    pub warnings: Vec<String>,
}

/// A memory domain (NUMA node) of a CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// The number of the domain; −1 where it is unknown.
    pub numa: i64,
    /// Whether it is made by Intel.
    pub is_intel: bool,
    /// To each other domain, one way.
    pub to_others: Bandwidth,
}

/// What something is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// A place in [`NcclTopology::cpus`].
    Cpu(usize),
    /// A place in [`NcclTopology::switches`].
    Switch(usize),
}

/// A PCIe link to what is above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PcieLink {
    /// Transfers of a lane in a second, in units of 1e9: 8 of PCIe 3, 16 of PCIe 4.
    pub giga_transfers_per_s: f64,
    /// Lanes.
    pub lanes: u32,
    /// As NCCL computes it, one way.
    pub bandwidth: Bandwidth,
}

/// A PCIe switch.
#[derive(Debug, Clone, PartialEq)]
pub struct PcieSwitch {
    /// Its address, such as `0000:05:00.0`.
    pub bus_id: String,
    /// What it is below.
    pub parent: Parent,
    /// To what it is below.
    pub link: PcieLink,
}

/// An accelerator.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Its rank in the job that wrote the file.
    pub rank: u32,
    /// Its address.
    pub bus_id: String,
    /// Compute capability without the point: 80 is 8.0.
    pub sm: u32,
    /// Its name in the catalogue of hardware, where the PCI device number tells.
    pub name: Option<&'static str>,
    /// Whether network cards reach its memory without the host's.
    pub gdr: bool,
    /// What it is below.
    pub parent: Parent,
    /// To what it is below.
    pub link: PcieLink,
    /// NVLinks to NVSwitches.
    pub switch_nvlinks: u32,
    /// NVLinks to other accelerators: place in [`NcclTopology::gpus`], and how many.
    pub peer_nvlinks: Vec<(usize, u32)>,
}

/// A network interface: a port of a card.
#[derive(Debug, Clone, PartialEq)]
pub struct Nic {
    /// Its name, such as `mlx5_0`.
    pub name: String,
    /// Its number.
    pub dev: u32,
    /// What it is sold as, one way.
    pub bandwidth: Bandwidth,
    /// What its plug-in says that it adds.
    pub latency: SimDuration,
    /// Whether its PCI class is that of InfiniBand.
    pub is_infiniband: bool,
    /// What it is below.
    pub parent: Parent,
    /// To what it is below; none where the file does not know the card's slot.
    pub link: Option<PcieLink>,
}

/// Reads the file.
///
/// # Errors
/// If it is not XML, not of a system of version 1, of several hosts, or without ranks; if an
/// attribute is missing that NCCL needs, or is no number where it must be one.
pub fn read(text: &str) -> Result<NcclTopology, ImportError> {
    xml::read(text)
}
