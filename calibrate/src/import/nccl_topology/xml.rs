//! From XML to a topology, as NCCL reads it.

use std::collections::BTreeSet;

use roxmltree::{Document, Node};

use super::bandwidth::{self, CpuKind, PCIE_UNKNOWN};
use super::{Cpu, ImportError, NcclTopology, Parent, PcieLink, PcieSwitch};

/// PCIe switches below each other at most.
const DEPTH_MAX: usize = 32;

pub(super) struct Reader<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) topology: NcclTopology,
    hosts: BTreeSet<&'a str>,
    /// NVLinks, by address of the accelerator and of what they lead to.
    pub(super) nvlinks: Vec<(String, Nvlink)>,
    /// Accelerators without rank, by address.
    pub(super) idle: Vec<String>,
    /// Whether a warning of its kind was given.
    warned: BTreeSet<&'static str>,
}

pub(super) struct Nvlink {
    pub(super) target: String,
    pub(super) class: String,
    pub(super) count: u32,
}

/// Where in the tree the reader is.
#[derive(Clone, Copy)]
struct At {
    parent: Parent,
    depth: usize,
    /// The generation of a Broadcom switch right above.
    broadcom: Option<u8>,
}

pub(super) fn read(text: &str) -> Result<NcclTopology, ImportError> {
    let document = Document::parse(text).map_err(|error| {
        let problem = format!("this is not XML: {error}");
        ImportError::at(error.pos().row as usize, problem)
    })?;
    let root = document.root_element();
    let mut reader = Reader {
        document: &document,
        topology: NcclTopology::default(),
        hosts: BTreeSet::new(),
        nvlinks: Vec::new(),
        idle: Vec::new(),
        warned: BTreeSet::new(),
    };
    if root.tag_name().name() != "system" {
        let name = root.tag_name().name();
        let problem = format!("`<{name}>`, expected `<system>`, as NCCL_TOPO_DUMP_FILE has it");
        return Err(reader.error(root, problem));
    }
    let version = reader.text(root, "version")?;
    if version != "1" {
        let problem = format!("version {version}, expected 1 (RCCL, which writes 2, is not read)");
        return Err(reader.error(root, problem).with_key("version"));
    }
    for node in root.children().filter(Node::is_element) {
        match node.tag_name().name() {
            "cpu" => reader.cpu(node)?,
            _ => reader.skip(node),
        }
    }
    reader.finish()
}

impl<'a> Reader<'a> {
    pub(super) fn error(&self, node: Node<'_, '_>, problem: impl Into<String>) -> ImportError {
        let place = self.document.text_pos_at(node.range().start);
        ImportError::at(place.row as usize, problem)
    }

    pub(super) fn warn(&mut self, kind: &'static str, warning: impl Into<String>) {
        if self.warned.insert(kind) {
            self.topology.warnings.push(warning.into());
        }
    }

    pub(super) fn skip(&mut self, node: Node<'_, '_>) {
        let line = self.document.text_pos_at(node.range().start).row;
        let name = node.tag_name().name();
        let (kind, about) = match name {
            "c2c" => ("c2c", "links between GPUs and CPUs (NVLink-C2C) are left out"),
            "pcilink" => ("pcilink", "links between PCIe switches are left out"),
            "gin" | "rma" => return,
            _ => ("element", "an element that is not known is left out"),
        };
        self.warn(kind, format!("line {line}: `<{name}>`: {about}"));
    }

    pub(super) fn text(&self, node: Node<'a, '_>, key: &str) -> Result<&'a str, ImportError> {
        node.attribute(key).ok_or_else(|| {
            let name = node.tag_name().name();
            self.error(node, format!("`<{name}>` has no such attribute")).with_key(key)
        })
    }

    /// A number, decimal or after `0x`; `default` where there is none.
    pub(super) fn number(
        &self,
        node: Node<'a, '_>,
        key: &str,
        default: Option<i64>,
    ) -> Result<i64, ImportError> {
        let text = match (node.attribute(key), default) {
            (None, Some(default)) => return Ok(default),
            _ => self.text(node, key)?.trim(),
        };
        let number = match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        number.ok_or_else(|| {
            self.error(node, format!("`{text}`, expected a whole number")).with_key(key)
        })
    }

    pub(super) fn small(
        &self,
        node: Node<'a, '_>,
        key: &str,
        default: Option<i64>,
    ) -> Result<u32, ImportError> {
        let number = self.number(node, key, default)?;
        let about = |_| {
            let problem = format!("{number}, expected a whole number from 0");
            self.error(node, problem).with_key(key)
        };
        number.try_into().map_err(about)
    }

    fn cpu(&mut self, node: Node<'a, '_>) -> Result<(), ImportError> {
        self.hosts.insert(node.attribute("host_hash").unwrap_or_default());
        if self.hosts.len() > 1 {
            let problem = "another host, expected a file of one: write it by a job on one node \
                           (NVLink between nodes, as of NVL72, is not represented)";
            return Err(self.error(node, problem).with_key("host_hash"));
        }
        let kind = CpuKind {
            arch: self.text(node, "arch")?,
            vendor: node.attribute("vendor").unwrap_or_default(),
            family: self.small(node, "familyid", Some(0))?,
            model: self.small(node, "modelid", Some(0))?,
        };
        let to_others = kind.to_others().unwrap_or_else(|| {
            let warning = format!(
                "NCCL knows no bandwidth between CPUs of {} {}: they are joined without limit",
                kind.arch, kind.vendor
            );
            self.warn("cpu", warning);
            bandwidth::UNLIMITED
        });
        let numa = self.number(node, "numaid", None)?;
        let cpus = &mut self.topology.cpus;
        let parent = Parent::Cpu(cpus.len());
        cpus.push(Cpu { numa, is_intel: kind.is_intel(), to_others });
        let at = At { parent, depth: 0, broadcom: None };
        for child in node.children().filter(Node::is_element) {
            match child.tag_name().name() {
                "pci" => self.pci(child, at)?,
                "nic" => self.nic(child, parent, None, false)?,
                _ => self.skip(child),
            }
        }
        Ok(())
    }

    fn pci(&mut self, node: Node<'a, '_>, at: At) -> Result<(), ImportError> {
        if at.depth >= DEPTH_MAX {
            let problem = format!("PCIe switches more than {DEPTH_MAX} deep");
            return Err(self.error(node, problem));
        }
        let bus_id = self.text(node, "busid")?.to_lowercase();
        let class = self.text(node, "class")?;
        let link = self.link(node)?;
        let child = |name: &str| node.children().find(|child| child.has_tag_name(name));
        if let Some(gpu) = child("gpu") {
            return self.gpu(gpu, node, bus_id, at.parent, link);
        }
        if let Some(nic) = child("nic") {
            let ports = nic.children().filter(|child| child.has_tag_name("net")).count();
            let parent = if ports > 1 { self.switch(bus_id, at.parent, link) } else { at.parent };
            return self.nic(nic, parent, Some(link), class.starts_with("0x0207"));
        }
        if ["0x03", "0x02"].iter().any(|device| class.starts_with(device)) {
            // As in files that are made for NCCL to read, which finds out the rest by itself.
            return Ok(());
        }
        let id = self.device_id(node)?;
        let folds = at.broadcom.is_some() && broadcom_generation(id, 1) == at.broadcom;
        let below = if folds {
            At { depth: at.depth + 1, broadcom: None, ..at }
        } else {
            let parent = self.switch(bus_id, at.parent, link);
            At { parent, depth: at.depth + 1, broadcom: broadcom_generation(id, 0) }
        };
        for child in node.children().filter(Node::is_element) {
            match child.tag_name().name() {
                "pci" => self.pci(child, below)?,
                _ => self.skip(child),
            }
        }
        Ok(())
    }

    fn switch(&mut self, bus_id: String, parent: Parent, link: PcieLink) -> Parent {
        let switches = &mut self.topology.switches;
        switches.push(PcieSwitch { bus_id, parent, link });
        Parent::Switch(switches.len() - 1)
    }

    /// Vendor, device and both of the subsystem, in one number.
    fn device_id(&self, node: Node<'a, '_>) -> Result<u64, ImportError> {
        let mut id = 0;
        for key in ["vendor", "device", "subsystem_vendor", "subsystem_device"] {
            id = id << 16 | u64::from(self.small(node, key, Some(0))? & 0xffff);
        }
        Ok(id)
    }

    fn link(&mut self, node: Node<'a, '_>) -> Result<PcieLink, ImportError> {
        let width = node.attribute("link_width").unwrap_or_default().trim();
        let speed = node.attribute("link_speed").unwrap_or_default();
        let lanes = width.parse().ok().filter(|lanes| (1..=32).contains(lanes));
        let rate = speed.split_whitespace().next().and_then(|rate| rate.parse().ok());
        let known = rate
            .zip(lanes)
            .and_then(|(rate, lanes)| Some((rate, lanes, bandwidth::pcie(rate, lanes)?)));
        if known.is_none() {
            let line = self.document.text_pos_at(node.range().start).row;
            let warning = format!(
                "line {line}: a PCIe link of speed `{speed}` and width `{width}`: what is not known \
                 is taken as 8 GT/s and 16 lanes, as NCCL does"
            );
            self.warn("pcie", warning);
        }
        let (rate, lanes) = match known {
            Some((rate, lanes, bandwidth)) => {
                return Ok(PcieLink { giga_transfers_per_s: rate, lanes, bandwidth });
            }
            None => (
                rate.filter(|rate| bandwidth::pcie(*rate, 1).is_some()).unwrap_or(PCIE_UNKNOWN.0),
                lanes.unwrap_or(PCIE_UNKNOWN.1),
            ),
        };
        let bandwidth = bandwidth::pcie(rate, lanes).unwrap_or(bandwidth::UNLIMITED);
        Ok(PcieLink { giga_transfers_per_s: rate, lanes, bandwidth })
    }
}

/// NCCL's `getBcmGen`: Broadcom switches of PCIe 4 and 5, whose second `level` is no switch of its own.
fn broadcom_generation(id: u64, level: u64) -> Option<u8> {
    match id & 0xffff_ffff_ffff_f000 {
        0x1000_c010_1000_a000 => Some(4),
        family if family == (0x1000_c030_1000_0000 | (level * 0x1000)) => Some(5),
        _ => None,
    }
}
