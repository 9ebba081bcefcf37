//! Accelerators, their NVLinks, and network interfaces.

use foretrain_sim::units::{Bandwidth, SimDuration};
use roxmltree::Node;

use super::bandwidth;
use super::xml::{Nvlink, Reader};
use super::{Gpu, ImportError, NcclTopology, Nic, Parent, PcieLink};

/// Accelerators and interfaces of a node at most, NCCL's `NCCL_TOPO_MAX_LINKS`.
const DEVICES_MAX: usize = 576;

/// NVLinks of an accelerator to another at most; there are 18 today.
const NVLINKS_MAX: u32 = 256;

/// Mbit/s that NCCL takes an interface to have that says nothing.
const NIC_MBIT_PER_S: u64 = 10_000;

impl<'a> Reader<'a> {
    pub(super) fn gpu(
        &mut self,
        node: Node<'a, '_>,
        slot: Node<'a, '_>,
        bus_id: String,
        parent: Parent,
        link: PcieLink,
    ) -> Result<(), ImportError> {
        if node.attribute("rank").is_none() {
            self.idle.push(bus_id);
            return Ok(());
        }
        if slot.children().filter(|child| child.has_tag_name("gpu")).count() > 1 {
            let problem = "several ranks on one GPU, which are not represented";
            return Err(self.error(slot, problem));
        }
        for nvlink in node.children().filter(Node::is_element) {
            if !nvlink.has_tag_name("nvlink") {
                self.skip(nvlink);
                continue;
            }
            let count = self.small(nvlink, "count", None)?;
            if !(1..=NVLINKS_MAX).contains(&count) {
                let problem = format!("{count}, expected 1 to {NVLINKS_MAX}");
                return Err(self.error(nvlink, problem).with_key("count"));
            }
            let target = self.text(nvlink, "target")?.to_lowercase();
            let class = self.text(nvlink, "tclass")?.to_owned();
            self.nvlinks.push((bus_id.clone(), Nvlink { target, class, count }));
        }
        let gpu = Gpu {
            rank: self.small(node, "rank", None)?,
            sm: self.small(node, "sm", None)?,
            name: bandwidth::accelerator(self.small(slot, "device", Some(0))?),
            gdr: self.number(node, "gdr", Some(1))? != 0,
            bus_id,
            parent,
            link,
            switch_nvlinks: 0,
            peer_nvlinks: Vec::new(),
        };
        let gpus = &mut self.topology.gpus;
        if gpus.iter().any(|other| other.rank == gpu.rank || other.bus_id == gpu.bus_id) {
            let problem = format!("rank {} at {} is there twice", gpu.rank, gpu.bus_id);
            return Err(self.error(node, problem).with_key("rank"));
        }
        gpus.push(gpu);
        self.check_count(node)
    }

    pub(super) fn nic(
        &mut self,
        node: Node<'a, '_>,
        parent: Parent,
        link: Option<PcieLink>,
        is_infiniband: bool,
    ) -> Result<(), ImportError> {
        for net in node.children().filter(Node::is_element) {
            if !net.has_tag_name("net") {
                self.skip(net);
                continue;
            }
            // Interfaces without number, and those that are part of another (`net="0"`), are not used.
            if net.attribute("dev").is_none() || self.number(net, "net", Some(1))? == 0 {
                continue;
            }
            let dev = self.small(net, "dev", None)?;
            let name: String = net.attribute("name").unwrap_or("?").chars().take(64).collect();
            let name: String = name.chars().filter(|c| !c.is_control()).collect();
            let speed = self.number(net, "speed", Some(0))?;
            let mbit_per_s = u64::try_from(speed).ok().filter(|speed| *speed > 0);
            if mbit_per_s.is_none() {
                let warning = format!(
                    "interface {name} does not say its speed: taken as 10 Gbit/s, as NCCL does"
                );
                self.warn("speed", warning);
            }
            let mbit_per_s = mbit_per_s.unwrap_or(NIC_MBIT_PER_S).min(100_000_000);
            let latency = net.attribute("latency").unwrap_or("0");
            let latency_us = latency.trim().parse().ok().filter(|us| (0.0..1e9).contains(us));
            let latency_us: f64 = latency_us.ok_or_else(|| {
                let problem = format!("`{latency}`, expected microseconds, at least 0");
                self.error(net, problem).with_key("latency")
            })?;
            if self.number(net, "gdr", Some(1))? == 0 {
                let warning = format!(
                    "interface {name} has no GPUDirect: transfers through the host's memory are not \
                     represented"
                );
                self.warn("gdr", warning);
            }
            let bandwidth = Bandwidth::from_bytes_per_s(mbit_per_s * 125_000);
            let latency = SimDuration::from_ps((latency_us * 1e6).round() as u64);
            if self.topology.nics.iter().any(|other| other.dev == dev) {
                let problem = format!("two interfaces have the number {dev}");
                return Err(self.error(net, problem).with_key("dev"));
            }
            self.topology.nics.push(Nic {
                name,
                dev,
                bandwidth,
                latency,
                is_infiniband,
                parent,
                link,
            });
            self.check_count(net)?;
        }
        Ok(())
    }

    fn check_count(&self, node: Node<'_, '_>) -> Result<(), ImportError> {
        if self.topology.gpus.len().max(self.topology.nics.len()) > DEVICES_MAX {
            let problem = format!("more than {DEVICES_MAX} accelerators or interfaces of a node");
            return Err(self.error(node, problem));
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<NcclTopology, ImportError> {
        if self.topology.gpus.is_empty() {
            return Err(ImportError::new(
                "no `<gpu>` with a `rank`: this is a file for NCCL to read, or not of a job; have \
                 NCCL write what it found, with NCCL_TOPO_DUMP_FILE=topology.xml",
            ));
        }
        self.topology.gpus.sort_by_key(|gpu| gpu.rank);
        self.topology.nics.sort_by_key(|nic| nic.dev);
        for (bus_id, nvlink) in std::mem::take(&mut self.nvlinks) {
            let place =
                |bus_id: &str| self.topology.gpus.iter().position(|gpu| gpu.bus_id == bus_id);
            let (Some(from), to) = (place(&bus_id), place(&nvlink.target)) else { continue };
            let Nvlink { target, class, count } = nvlink;
            let gpu = &mut self.topology.gpus[from];
            if class.starts_with("0x03") {
                match to {
                    Some(to) if to != from => gpu.peer_nvlinks.push((to, count)),
                    _ if self.idle.contains(&target) => {}
                    _ => self.warn("target", format!("NVLinks to {target}, which is no GPU here")),
                }
            } else if class.starts_with("0x068001") {
                self.warn("npu", "NVLinks between GPUs and CPUs (POWER) are left out");
            } else {
                // To NCCL, all else is NVSwitch; as it is, all switches are one.
                gpu.switch_nvlinks = gpu.switch_nvlinks.saturating_add(count);
            }
        }
        if self.topology.gpus.iter().any(|gpu| !gpu.gdr) {
            let warning = "GPUs without GPUDirect: transfers through the host's memory are not \
                           represented";
            self.warn("gdr", warning);
        }
        Ok(self.topology)
    }
}
